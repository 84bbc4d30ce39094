"""Reports: every number can be recomputed from the raw samples, and the paper's come out as they should."""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import math
import re
import statistics
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import simulated as simulation
from PIL import Image

from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.report import REPORTS, figures, limits
from convbench.report.content import Material
from convbench.report.write import write_report
from convbench.results.paper import multicore_experiment
from convbench.results.record import Record
from convbench.results.store import Sweep, load

PEAKS = {
    "data": "random",
    "cores": {
        str(cores): {"multiply_add_float32": [cores * 1e11] * 2, "read": [cores * 1e10] * 2} for cores in (1, 2, 8)
    },
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep of the experiment's kind, on the simulated machine and with noise, and its report."""
    directory = tmp_path_factory.mktemp("report")
    picture = directory / "picture.png"
    Image.effect_noise((52, 40), 80).save(picture)
    np.save(directory / "bank.npy", np.random.default_rng(1).standard_normal((16, 11, 11)))
    request = {
        "image": picture,
        "kernels": str(directory / "bank.npy"),
        "algorithms": ("direct", "unrolled"),
        "executors": ("simulated", "gpu"),
    }
    noise = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        executor = simulation.install(monkeypatch)
        executor.law = lambda cores: (0.002 + 0.02 / cores) * noise.uniform(1, 1.1)
        executor.stages = (0.1, 0.7, 0.1)
        monkeypatch.setattr(simulation.WorkerHere, "peaks", lambda *_, **__: PEAKS)
        spec = make_spec(**request, cores=(1, 2, 64), runs=3)
        spec = dataclasses.replace(spec, timing=Timing(min_seconds=0, max_samples=3, peak_repetitions=2))
        write_report(run_sweep(spec, directory / "sweep"), directory / "sweep")
    return directory / "sweep"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def independent_run_means(directory: Path) -> dict[tuple[str, str, int], dict[int, float]]:
    """Ten lines that share no code with convbench."""
    means: dict = defaultdict(dict)
    for line in (directory / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == "ok":
            key = (record["algorithm"], record["executor"], record["cores"])
            means[key][record["run"]] = sum(record["samples"]) / len(record["samples"])
    return means


def test_execution_times_can_be_recomputed(reported):
    means = independent_run_means(reported)
    for algorithm in ("direct", "unrolled"):
        table = rows(reported / "tables" / f"table3-multicore-{algorithm}-simulated.csv")
        for cores, column in ((1, "1 core"), (2, "2 cores"), (64, "64 cores (oversubscribed)")):
            runs = means[algorithm, "simulated", cores]
            for run in range(3):
                assert float(table[run][column]) == pytest.approx(runs[run], rel=1e-12)
            total, average, median, _fastest = table[3:]
            assert float(total[column]) == pytest.approx(sum(runs.values()), rel=1e-12)
            assert float(average[column]) == pytest.approx(sum(runs.values()) / 3, rel=1e-12)
            assert float(median[column]) == pytest.approx(sorted(runs.values())[1], rel=1e-12)
            spread = math.sqrt(sum((t - sum(runs.values()) / 3) ** 2 for t in runs.values()) / 2)
            believed = 1 / 3  # of the skewness of three runs
            skewness = believed * sum((t - sum(runs.values()) / 3) ** 3 for t in runs.values()) / 3 / spread**3
            quantile = -6.964556734283273 / math.sqrt(3)  # Student's t at 99 %, two degrees of freedom; then Hall's
            moved = (np.cbrt(1 + skewness * (quantile - skewness / 18)) - 1) * 3 / skewness
            if not average[f"{column} high"]:
                continue  # the machine was so busy that three runs say nothing
            mean = sum(runs.values()) / 3
            high = math.log(float(average[f"{column} high"]) / mean)
            assert high == pytest.approx(-moved * spread / mean, rel=1e-9)


def test_speedups_can_be_recomputed(reported):
    means = independent_run_means(reported)
    one, two = means["direct", "simulated", 1], means["direct", "simulated", 2]
    [by_average, *_] = rows(reported / "tables" / "table4-multicore-direct-simulated.csv")
    assert float(by_average["to 2 cores"]) == pytest.approx(sum(one.values()) / sum(two.values()), rel=1e-12)
    [paired, *_] = rows(reported / "tables" / "table4-multicore-direct-simulated-paired.csv")
    geometric = math.exp(sum(math.log(one[run] / two[run]) for run in range(3)) / 3)
    assert float(paired["to 2 cores"]) == pytest.approx(geometric, rel=1e-12)
    if paired["to 2 cores low"]:  # three runs on a busy machine may say nothing
        assert float(paired["to 2 cores low"]) < geometric < float(paired["to 2 cores high"])


def test_scaling_can_be_recomputed_and_leaves_oversubscribed_cells_out_of_the_fit(reported):
    means = independent_run_means(reported)
    one, two = means["direct", "simulated", 1], means["direct", "simulated", 2]
    table = [row for row in rows(reported / "tables" / "scaling.csv") if row["algorithm"] == "direct"]
    speedup = math.exp(sum(math.log(one[run] / two[run]) for run in range(3)) / 3)
    assert float(table[0]["efficiency"]) == pytest.approx(speedup / 2, rel=1e-12)
    assert float(table[0]["serial fraction"]) == pytest.approx((1 / speedup - 0.5) / 0.5, rel=1e-9)
    fractions = [(two[run] / one[run] - 0.5) / 0.5 for run in range(3)]
    assert float(table[0]["Amdahl's fraction"]) == pytest.approx(sum(fractions) / 3, rel=1e-9)
    assert table[1]["on"] == "64 cores (oversubscribed)"


def test_stages_can_be_recomputed(reported):
    runs: dict[tuple[str, str], dict[int, list[float]]] = {}
    for line in (reported / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == "ok" and record["algorithm"] == "direct":
            mean = statistics.fmean(record["stages"]["pad"])
            runs.setdefault(record["executor"], {}).setdefault(record["cores"], []).append(mean)
    for executor, cells in runs.items():
        [pad] = [
            row
            for row in rows(next((reported / "tables").glob(f"stages-*-direct-{executor}.csv")))
            if row["stage"] == "pad"
        ]
        headings = [heading for heading in pad if heading[0].isdigit()]
        for heading, cores in zip(headings, sorted(cells), strict=True):
            assert float(pad[heading]) == pytest.approx(statistics.fmean(cells[cores]), rel=1e-12)


def test_the_report_has_its_sections_in_order_and_says_what_was_skipped(reported):
    text = (reported / "report.md").read_text()
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    material = Material(load(reported), load(reported).header["spec"])
    sections = [REPORTS[name](material) for name in REPORTS]
    assert titles == [section.title for section in sections if section.text or section.tables or section.figures]
    assert "Beside other libraries" not in titles  # none was measured
    assert re.search(r"\| direct \| gpu \| 1 \| skipped \| .+ \| 3 \|", text)
    assert "oversubscribed" in text


def test_markdown_tables_are_whole(reported):
    text = (reported / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


class Page(HTMLParser):
    """What an HTML page refers to, and whether its tags are closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids |= {values["id"]} if "id" in values else set()
        if tag == "img":
            self.sources.append(values["src"])
            assert values["alt"]
        if tag == "a":
            self.anchors.add(values["href"].removeprefix("#"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(reported):
    text = (reported / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert not page.open
    assert page.anchors <= page.ids
    assert len(page.sources) == 6  # figures 10 and 11, the roofline, the stages, and the paper's two
    for source in page.sources:
        head, _, content = source.partition("base64,")
        assert head == "data:image/svg+xml;"
        assert base64.b64decode(content).startswith(b"<?xml")
    assert "http://" not in re.sub(r"data:[^\"]+", "", text)


def test_figures_are_large_enough_for_print(reported):
    for name in ("fig10-multicore", "fig11-multicore", "fig10-the-paper", "fig11-the-paper"):
        with Image.open(reported / "figures" / f"{name}.png") as picture:
            assert picture.width >= 800
            assert picture.info["dpi"][0] == pytest.approx(200, abs=1)
        assert (reported / "figures" / f"{name}.svg").read_text().startswith("<?xml")


def test_the_papers_tables_come_out_of_the_same_code(reported):
    table = rows(reported / "tables" / "table3-multicore-paper-java-threads.csv")
    averages = {column: round(float(table[11][column]), 4) for column in ("1 core", "2 cores", "4 cores", "8 cores")}
    assert averages == {"1 core": 85.9125, "2 cores": 49.0634, "4 cores": 25.3766, "8 cores": 14.2801}
    text = (reported / "report.md").read_text()
    assert "| 1 core | 1.751 | 3.386 | 6.016 |" in text
    assert "| 2 cores |  | 1.933 | 3.436 |" in text
    assert "| 4 cores |  |  | 1.777 |" in text
    for slip in ("49.0664", "490.634", "1.934", "3.385 "):
        assert slip in text


def test_the_papers_experiment_can_be_reported_like_any_other(tmp_path):
    write_report(multicore_experiment(), tmp_path)
    assert "fastest is paper on Java threads with 8 cores" in (tmp_path / "report.md").read_text()


def test_garbage_in_the_results_is_named_and_the_rest_reported(reported, tmp_path, convbench):
    for name in ("sweep.json", "results.jsonl"):
        (tmp_path / name).write_bytes((reported / name).read_bytes())
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    lines[4] = "garbage{"
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    done = convbench("report", tmp_path)
    assert done.returncode == 2
    assert "results.jsonl line 5 cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "results.jsonl line 5" in (tmp_path / "report.md").read_text()


def test_a_sweep_with_nothing_measured_still_reports_why(tmp_path, small):
    spec = make_spec([small], executors=("gpu",), runs=1)
    spec = dataclasses.replace(spec, timing=Timing(peak_repetitions=0))
    sweep = run_sweep(spec, tmp_path / "sweep")
    if any(record.status == "ok" for record in sweep.records):
        pytest.skip("this machine has a GPU")
    write_report(sweep, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Nothing was measured" in text
    assert "| unrolled | gpu | 1 | skipped |" in text


def test_several_problems_get_tables_of_their_own(tmp_path, simulated):
    simulated.law = lambda cores: 0.1 / cores
    problems = ['mb1ic1ih12oc4kh3n"net:conv1"', 'mb1ic1ih12oc4kh5n"net:conv2"']
    spec = make_spec(problems, algorithms=("direct",), executors=("simulated",), cores=(1, 2), runs=1)
    write_report(run_sweep(dataclasses.replace(spec, timing=Timing(peak_repetitions=0)), tmp_path), tmp_path)
    for name in ("net-conv1", "net-conv2"):
        assert (tmp_path / "tables" / f"table3-{name}-direct-simulated.csv").exists()
        assert (tmp_path / "figures" / f"fig11-{name}.png").exists()


@pytest.mark.parametrize(("host", "card"), [("random", ""), ("", "random"), ("zeros", "random")])
def test_what_limits_were_measured_on_decides_what_is_said_of_them(host, card):
    """Sweeps of older versions do not say; they had the same number everywhere."""
    of_card = {"data": card, "rates": {"read": [1e12]}} if card else {"rates": {"read": [1e12]}}
    peaks = {**({"data": host} if host else {}), "cores": {"1": {"read": [1e10]}}, "device": of_card}
    on_host, on_card = limits.section(Material(Sweep(Path(), {"machine": {"peaks": peaks}}, ()))).text
    for text, data in ((on_host, host), (on_card, card)):
        assert (limits.RANDOM in text, limits.CONSTANT in text) == (data == "random", data != "random")


def test_figures_have_no_bar_where_there_is_no_interval():
    """One core in three runs that agree, two in two, four in three of which nothing follows, eight like one."""
    times = {1: (1.0, 1.01, 0.99), 2: (0.5, 0.51), 4: (0.25, 8.0, 900.0), 8: (0.13, 0.14, 0.12)}
    records = [
        Record(
            run=run,
            order=0,
            problem="mb1ic1ih9oh7kh3iw9ow7kw3oc2",
            algorithm="direct",
            executor="threads",
            cores=cores,
            status="ok",
            samples=(seconds,),
        )
        for cores, runs in times.items()
        for run, seconds in enumerate(runs)
    ]
    both = figures.section(Material(Sweep(Path(), {}, tuple(records)))).figures
    assert len(both) == 2
    for figure in both:
        axes = figure.draw().axes[0]
        [(_, caps, [bars])] = axes.containers
        drawn = [True, False, False, True]
        assert [segment.size > 0 for segment in bars.get_segments()] == drawn
        for cap in caps:
            assert list(np.isfinite(cap.get_ydata().astype(float))) == drawn

"""Everything that is to be known of a GPU, into one directory: `make gpu-check` runs it after the tests for GPUs.

The multicore experiment beside cuDNN and on the host's cores, with hot and with cold caches; every layer of ResNet-50
at batch 32 beside cuDNN; the layers with products in TF32; and the layers of other networks. On a machine without
internet, whose Python has everything: `make gpu-check BIN=/usr/bin READY=`; where time is short, in parts:
`PARTS="experiment layers" GPU_RUNS=2`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from convbench import machine
from convbench.analysis.limits import Limits
from convbench.analysis.series import group
from convbench.analysis.times import CellTimes, ratio
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.measure.spec import make_spec
from convbench.measure.sweep import run_sweep
from convbench.report.content import Material
from convbench.report.versus import versus_tables
from convbench.report.write import write_report
from convbench.results.store import Sweep
from convbench.terminal import show_table, sweep_progress

EXPERIMENT = 'mb1ic1ih720iw1280oc128kh11kw11n"multicore"'
RESNET50 = (  # He et al., "Deep residual learning for image recognition", 2016; strides are in the 3 x 3 layers
    ("conv1", "ic3ih224oc64kh7sh2ph3"),
    ("2:1x1a", "ic64ih56oc64kh1ph0"),
    ("2:3x3", "ic64ih56oc64kh3ph1"),
    ("2:1x1c", "ic64ih56oc256kh1ph0"),
    ("2:1x1b", "ic256ih56oc64kh1ph0"),
    ("3:1x1a", "ic256ih56oc128kh1ph0"),
    ("3:3x3s2", "ic128ih56oc128kh3sh2ph1"),
    ("3:1x1c", "ic128ih28oc512kh1ph0"),
    ("3:1x1s2", "ic256ih56oc512kh1sh2ph0"),
    ("3:1x1b", "ic512ih28oc128kh1ph0"),
    ("3:3x3", "ic128ih28oc128kh3ph1"),
    ("4:1x1a", "ic512ih28oc256kh1ph0"),
    ("4:3x3s2", "ic256ih28oc256kh3sh2ph1"),
    ("4:1x1c", "ic256ih14oc1024kh1ph0"),
    ("4:1x1s2", "ic512ih28oc1024kh1sh2ph0"),
    ("4:1x1b", "ic1024ih14oc256kh1ph0"),
    ("4:3x3", "ic256ih14oc256kh3ph1"),
    ("5:1x1a", "ic1024ih14oc512kh1ph0"),
    ("5:3x3s2", "ic512ih14oc512kh3sh2ph1"),
    ("5:1x1c", "ic512ih7oc2048kh1ph0"),
    ("5:1x1s2", "ic1024ih14oc2048kh1sh2ph0"),
    ("5:1x1b", "ic2048ih7oc512kh1ph0"),
    ("5:3x3", "ic512ih7oc512kh3ph1"),
)
BATCH = 32
LAYERS = tuple(f'mb{BATCH}{layer}n"resnet50:{name}"' for name, layer in RESNET50)
NETWORKS = ("resnet18", "vgg16", "alexnet", "minixception", "lenet5")  # the others, each layer once
PARTS = ("experiment", "experiment-cold", "layers", "layers-tf32", "networks")
PEERS = ("cudnn", "cudnn-channels-last", "cublas")


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("reports/gpu/latest"), show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="[default: all]")
@click.option("--problem", default=EXPERIMENT, show_default=True, help="What is measured on the cores too.")
@click.option("--layer", "layers", multiple=True, default=LAYERS, help="[default: ResNet-50's at batch 32]")
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True, help="At batch 32.")
def main(
    output: Path, runs: int, parts: tuple[str, ...], problem: str, layers: tuple[str, ...], networks: tuple[str, ...]
) -> None:
    """Measure, write the reports, and say how the forms compare."""
    if (reason := EXECUTORS["gpu"].available()) is not None:
        raise UnavailableError(reason)
    on_gpu: dict[str, Any] = {"executors": ("gpu",), "peers": PEERS, "runs": runs}
    requests: dict[str, dict[str, Any]] = {
        "experiment": {"problems": [problem], "executors": ("threads", "gpu"), "cores": machine.core_series()},
        "experiment-cold": {"problems": [problem], "cache": "cold"},
        "layers": {"problems": list(layers)},
        "layers-tf32": {"problems": list(layers), "allow_tf32": True},
        "networks": {"network": networks, "mb": BATCH},
    }
    for part in parts:
        sweep = measure(output / part, **{**on_gpu, **requests[part]})
        (output / "machine.json").write_text(json.dumps(sweep.header["machine"], indent=1))
        if part.startswith("experiment"):
            for line in verdicts(sweep):
                click.echo(line)


def measure(directory: Path, **request: Any) -> Sweep:
    """Sweep into a directory, report, and show the last table, which sums up."""
    with sweep_progress(directory) as progress:
        sweep = run_sweep(make_spec(**request), directory, on_progress=progress)
    write_report(sweep, directory)
    *_, table = [None, *versus_tables(Material(sweep, sweep.header["spec"]))]
    if table is not None:
        show_table(table)
    return sweep


def verdicts(sweep: Sweep) -> list[str]:
    """How direct and winograd stand to the GPU and to one another."""
    cells: dict[str, CellTimes] = {
        series.algorithm: series.cells[1] for series in group(sweep.records) if series.executor == "gpu"
    }
    limits = Limits.of_gpu(sweep.header["machine"])
    lines = []
    for name, cell in cells.items():
        share = limits.share_of_peak(cell.products, cell.rate, 1)
        lines.append(f"{name}: {cell.mean.value * 1e3:.3f} ms" + (f", {share:.0%} of the GPU's peak" if share else ""))
    for one, other in (("direct", "winograd"), ("cublas", "unrolled")):
        if one in cells and other in cells and (found := ratio(cells[one], cells[other])):
            lines.append(f"{one} over {other}: {found.value:.2f}")
    return lines


if __name__ == "__main__":
    main()

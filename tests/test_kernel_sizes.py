"""The figure of the forms over kernel sizes: where it is drawn and what is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convbench.report.content import Material
from convbench.report.kernel_sizes import section
from convbench.results.record import Record
from convbench.results.store import Sweep


def material(sizes: tuple[int, ...], runs: int = 2) -> Material:
    """Two algorithms that cross at 5 x 5, in two runs or more."""
    records = [
        Record(
            run=run,
            order=0,
            problem=f"mb1ic1ih40oh{41 - size}kh{size}iw40ow{41 - size}kw{size}oc2",
            algorithm=algorithm,
            executor=executor,
            cores=1,
            status="ok",
            samples=(seconds * (1 + 0.01 * run) * factor,),
        )
        for size in sizes
        for run in range(runs)
        for algorithm, seconds in (("direct", size**2 / 25), ("fft", 1.0))
        for executor, factor in (("serial", 1.2), ("threads", 1.0))
    ]
    return Material(Sweep(Path(), {}, tuple(records)), {"algorithms": ["direct", "fft"]})


def test_the_fastest_executor_counts_and_the_fastest_form_is_named():
    made = section(material((3, 5, 7, 9)))
    [table] = made.tables
    assert [row[0] for row in table.rows] == ["3 x 3", "5 x 5", "7 x 7", "9 x 9"]
    assert [row[-1] for row in table.rows] == ["direct", "direct", "fft", "fft"]
    assert table.rows[0][1].value == pytest.approx(9 / 25 * 1.005)
    [figure] = made.figures
    axes = figure.draw().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["direct", "fft"]


def test_two_sizes_are_no_curve():
    made = section(material((3, 5)))
    assert not made.tables
    assert not made.figures


@pytest.mark.parametrize(("runs", "drawn"), [(2, False), (3, True)])
def test_a_bar_is_drawn_where_there_is_an_interval_and_nowhere_else(runs, drawn):
    [figure] = section(material((3, 5, 7), runs)).figures
    axes = figure.draw().axes[0]
    assert len(axes.containers) == 2
    for _, caps, [bars] in axes.containers:
        assert [segment.size > 0 for segment in bars.get_segments()] == [drawn] * 3
        for cap in caps:
            assert list(np.isfinite(cap.get_ydata().astype(float))) == [drawn] * 3

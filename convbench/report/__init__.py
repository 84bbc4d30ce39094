"""Tables, figures and a page from a sweep's records, without measuring.

A section is a function from `Material` to `Section`; adding one is a file and a line in `REPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from convbench.report.content import Material, Section

REPORTS: Table[Callable[[Material], Section]] = Table(
    "report section",
    [
        Entry("summary", "convbench.report.summary:section", "every cell in a line"),
        Entry("layers", "convbench.report.layers:section", "networks layer by layer, totals, where the time goes"),
        Entry("throughput", "convbench.report.throughput:section", "networks' images a second by executor"),
        Entry("figures", "convbench.report.figures:section", "time and speedup over cores"),
        Entry("versus", "convbench.report.versus:section", "beside other libraries"),
        Entry("kernel_sizes", "convbench.report.kernel_sizes:section", "the forms over kernel sizes"),
        Entry("selection", "convbench.report.selection:section", "which form wins where, and how well one is chosen"),
        Entry("limits", "convbench.report.limits:section", "the machine's limits, percent of peak, roofline"),
        Entry("times", "convbench.report.times:section", "execution times run by run"),
        Entry("speedups", "convbench.report.speedups:section", "speedup between core counts"),
        Entry("scaling", "convbench.report.scaling:section", "efficiency, serial fraction, Amdahl's law"),
        Entry("nodes", "convbench.report.nodes:section", "several nodes, measured and predicted"),
        Entry("gpu", "convbench.report.gpu:section", "the GPU beside the cores"),
        Entry("stages", "convbench.report.stages:section", "where the time goes"),
        Entry("published", "convbench.report.published:section", "the paper's own numbers"),
        Entry("conditions", "convbench.report.conditions:section", "machine, request, outcomes, flags"),
    ],
)

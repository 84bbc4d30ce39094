"""The paper's own tables and figures, from its run-by-run times and by the same code as ours."""

from __future__ import annotations

from convbench.report.content import Material, Section
from convbench.report.figures import problem_figures
from convbench.report.speedups import speedup_tables
from convbench.report.times import times_table
from convbench.results import paper


def section(_: Material) -> Section:
    """Table III, Table IV, Figure 10 and Figure 11 of the paper, and where they differ from what it prints."""
    material = Material(paper.multicore_experiment())
    [(problem, [series])] = material.by_problem().items()
    by_averages, _paired = speedup_tables(material, problem, series)
    return Section(
        "The paper's own numbers",
        [
            "Pandey, Nagwani and Verma: the same image size and filters in Java threads on a 2.4 GHz Opteron 6136. "
            "Its runs were not paired, so only the ratio of averages is given.",
            *paper.ERRATA,
        ],
        [times_table(material, problem, series), by_averages],
        problem_figures(material, "the paper", [series], name="the-paper", with_paper=False),
    )

"""Measure every algorithm over kernel sizes, and write the report with the figure of where they cross."""

from pathlib import Path

import click

from convbench.measure.spec import make_spec
from convbench.measure.sweep import run_sweep
from convbench.problem import Problem
from convbench.report.write import write_report
from convbench.terminal import sweep_progress

SIZES = (1, 2, 3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("reports/kernel-sizes"), show_default=True)
@click.option("--runs", default=3, show_default=True)
def main(output: Path, runs: int) -> None:
    """Measure on the image and the number of filters of the multicore experiment."""
    problems = [
        Problem(height=720, width=1280, out_channels=128, kernel_height=size, kernel_width=size) for size in SIZES
    ]
    with sweep_progress(output) as progress:
        sweep = run_sweep(make_spec(problems, executors=("threads",), runs=runs), output, on_progress=progress)
    for page in write_report(sweep, output):
        click.echo(page)


if __name__ == "__main__":
    main()

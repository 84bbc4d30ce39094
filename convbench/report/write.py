"""Writing of a report: Markdown, one self-contained HTML page, and a file for each table and figure."""

from __future__ import annotations

import base64
import csv
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import jinja2

from convbench.analysis.statistics import Estimate
from convbench.errors import RequestError
from convbench.report import REPORTS, figures
from convbench.report.content import Column, Figure, Material, Section, Table, Value, written
from convbench.results.store import Sweep

LONGEST_NAME: Final = 200  # characters; file systems allow 255 bytes
TITLE = "convbench: the convolution primitive over cores"


def write_report(sweep: Sweep, output: Path) -> list[Path]:
    """Write every section of `REPORTS` that is not empty.

    Args:
        sweep: The sweep.
        output: The directory that gets report.md, report.html, tables/ and figures/; made if it is not there.

    Returns:
        The two pages.

    Raises:
        RequestError: The directory cannot be written.
    """
    material = Material(sweep, sweep.header.get("spec", {}))
    made = [REPORTS[name](material) for name in REPORTS]
    sections = _named_apart(section for section in made if section.text or section.tables or section.figures)
    try:
        for folder in ("tables", "figures"):
            (output / folder).mkdir(parents=True, exist_ok=True)
        for section in sections:
            for table in section.tables:
                _write_csv(table, output / "tables" / f"{table.name}.csv")
            for figure in section.figures:
                figures.save(figure, output / "figures" / figure.name)
        pages = {"report.md": _markdown(sections), "report.html": _html(sections, output)}
        for name, text in pages.items():
            (output / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise RequestError(f"{output} cannot be written ({error.strerror}); choose another --output") from None
    return [output / name for name in pages]


def _named_apart(sections: Iterable[Section]) -> list[Section]:
    """The same sections, with different names of tables and figures that fit any file system."""
    tables, figures = set[str](), set[str]()
    return [
        dataclasses.replace(
            section,
            tables=[dataclasses.replace(table, name=_unused(table.name, tables)) for table in section.tables],
            figures=[dataclasses.replace(figure, name=_unused(figure.name, figures)) for figure in section.figures],
        )
        for section in sections
    ]


def _unused(name: str, taken: set[str]) -> str:
    """The name, shortened, with a number behind it if it is taken; adds it to `taken`."""
    short = name[:LONGEST_NAME]
    found = next(
        one for one in itertools.chain([short], (f"{short}-{n}" for n in itertools.count(2))) if one not in taken
    )
    taken.add(found)
    return found


def _write_csv(table: Table, path: Path) -> None:
    """Write values at full precision; an interval takes two more columns."""
    wide = [any(isinstance(row[place], Estimate) for row in table.rows) for place in range(len(table.columns))]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            title
            for column, is_wide in zip(table.columns, wide, strict=True)
            for title in ([column.title, f"{column.title} low", f"{column.title} high"] if is_wide else [column.title])
        )
        for row in table.rows:
            writer.writerow(
                field for value, is_wide in zip(row, wide, strict=True) for field in _fields(value, is_wide=is_wide)
            )


def _fields(value: Value, *, is_wide: bool) -> Iterable[str | float | None]:
    if isinstance(value, Estimate):
        return (value.value, value.low, value.high)
    return (value, None, None) if is_wide else (value,)


def _markdown(sections: Sequence[Section]) -> str:
    blocks = [f"# {TITLE}"]
    for section in sections:
        blocks += [f"## {section.title}", *section.text]
        for table in section.tables:
            blocks += [f"**{table.title}**\n\n{_markdown_table(table)}", *([f"*{table.note}*"] if table.note else [])]
        blocks += [f"![{figure.caption}](figures/{figure.name}.png)\n\n{figure.caption}" for figure in section.figures]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: Table) -> str:
    def line(fields: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(field.split()).replace("|", "\\|") for field in fields) + " |"

    rules = ["---:" if column.spec else "---" for column in table.columns]
    rows = [line(_texts(row, table.columns)) for row in table.rows]
    return "\n".join([line(column.title for column in table.columns), line(rules), *rows])


def _html(sections: Sequence[Section], output: Path) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("convbench.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )

    def image(figure: Figure) -> str:
        return base64.b64encode((output / "figures" / f"{figure.name}.svg").read_bytes()).decode()

    return environment.get_template("page.html.j2").render(
        title=TITLE, sections=sections, written=written, image=image, zip=zip
    )


def _texts(row: Sequence[Value], columns: Sequence[Column]) -> list[str]:
    return [written(value, column) for value, column in zip(row, columns, strict=True)]

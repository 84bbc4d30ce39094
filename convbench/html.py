"""Tables as HTML for notebooks, where `_repr_html_` of a result shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table; every text in it is escaped.

    Args:
        caption: Its heading.
        titles: Headings of the columns.
        rows: A text for each column.
        right: Columns whose texts end at the right, as numbers do.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        sides = ("right" if place in right else "left" for place in range(len(row)))
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>' for side, text in zip(sides, row, strict=True)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{cells(titles, 'th')}</tr></thead>"
    return f"<table><caption>{escape(caption)}</caption>{head}<tbody>{body}</tbody></table>"

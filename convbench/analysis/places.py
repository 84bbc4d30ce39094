"""Where cells are computed that are compared with each other: on so many cores, or on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from convbench.analysis.fastest import Ranking, rank
from convbench.analysis.series import Series
from convbench.analysis.times import CellTimes

Place = int | str  # so many cores, or the executor of a GPU
Key = tuple[str, str]  # algorithm and executor


def places(several: Iterable[Series]) -> list[Place]:
    """Numbers of cores in ascending order, those of all threads of workers on a cluster; then GPUs."""
    every = list(several)
    cores = {cell.threads for series in every if not series.on_gpu for cell in series.cells.values()}
    return [*sorted(cores), *dict.fromkeys(series.executor for series in every if series.on_gpu)]


def cells_at(several: Iterable[Series], place: Place) -> dict[Key, CellTimes]:
    """The cells of one problem that were measured there."""
    return {
        (series.algorithm, series.executor): cell
        for series in several
        for cell in series.cells.values()
        if place == (series.executor if series.on_gpu else cell.threads)
    }


def fastest(cells: Mapping[Key, CellTimes], *, ours: bool) -> Ranking[Key] | None:
    """The fastest of ours, or of the libraries that compute all of the convolution."""
    found = {key: cell for key, cell in cells.items() if not cell.bound and cell.peer != ours}
    return rank(found) if found else None


def in_words(place: Place) -> str:
    """Such as "2 cores"."""
    return place if isinstance(place, str) else f"{place} core{'s' if place > 1 else ''}"

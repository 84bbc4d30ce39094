"""The multicore experiment: a picture convolved with every kernel of a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from convbench import filters
from convbench.errors import RequestError
from convbench.images import load_image
from convbench.problem import DType, Problem
from convbench.request.stored import Source

EXPERIMENT: Final = "multicore"


def experiment(path: str | Path, kernels: str, seed: int, dtype: DType = "float32") -> tuple[Problem, Source]:
    """The experiment on a picture: every kernel of a bank over one channel, without padding.

    Raises:
        RequestError: The picture or the bank cannot be read, or the picture is smaller than the kernels.
    """
    picture = load_image(path)
    bank = filters.filter_bank(kernels, seed)
    (height, width), (count, rows, columns) = picture.pixels.shape, bank.shape
    if rows > height or columns > width:
        raise RequestError(
            f"image {str(path)!r} is {width} x {height}, smaller than the {columns} x {rows} kernels; "
            "give a larger image or smaller --kernels"
        )
    problem = Problem(
        height=height,
        width=width,
        out_channels=count,
        kernel_height=rows,
        kernel_width=columns,
        dtype=dtype,
        name=EXPERIMENT,
    )
    place = str(Path(path).resolve())
    return problem, Source(str(problem), place, picture.sha256, picture.steps, filters.sha256(kernels, bank))

"""Dilated kernels: each dilated convolution is several that are not, of the input's polyphase components.

With a dilation of d, outputs r, r + d, r + 2 d, ... of an axis read inputs r, r + d, r + 2 d, ... alone, counted from
the padding's begin. So a first phase sorts the rows and columns of each plane by their remainders into small planes,
which are images of a problem without dilation; a last one sorts its outputs back.

Source: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", 2016, for the operation; the
decomposition is that of Holschneider et al., "A real-time algorithm for signal analysis with the help of the wavelet
transform", 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from convbench.algorithms import SCRATCH_BYTES, SCRATCH_SHARE, Cost, Footprint
from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import pack, unpacker
from convbench.kernels.tile import Phase, TileName, Work, clear, jit
from convbench.kernels.within import Parameters as Parts
from convbench.kernels.within import Place, on_parts
from convbench.problem import ITEM_SIZE, Problem

CHANNELS: Final = 16  # of a unit that sorts the input


class Sizes(NamedTuple):
    """The parameters of the tiles that sort.

    Attributes:
        steps_y: Dilation along the vertical axis.
        steps_x: Likewise, horizontal.
        parts_y: Remainders of rows that occur.
        parts_x: Remainders of columns that occur.
        top: Rows of padding above an image.
        left: Columns of padding left of an image.
        small: The small planes, in the workspace.
    """

    steps_y: int
    steps_x: int
    parts_y: int
    parts_x: int
    top: int
    left: int
    small: Place


unpack = unpacker(Sizes)


@dataclass(frozen=True)
class Components:
    """The parts of a dilated problem.

    Attributes:
        problem: The problem without dilation, whose images they are.
        steps: Dilation along each axis.
        parts: Remainders that occur along each axis.
        x: Its input in the workspace.
        out: Its output in the workspace.
    """

    problem: Problem
    steps: tuple[int, int]
    parts: tuple[int, int]
    x: Place
    out: Place


@lru_cache(maxsize=CUTS)
def components(problem: Problem) -> Components:
    """The parts of a problem of stride 1."""
    kernel = problem.kernel_height, problem.kernel_width
    outputs = problem.output_height, problem.output_width
    y, x = _steps(problem)
    parts = min(y, outputs[0]), min(x, outputs[1])
    height, width = ceil_div(outputs[0], y), ceil_div(outputs[1], x)
    images = problem.batch * parts[0] * parts[1]
    given = Place(0, images, problem.channels, height + kernel[0] - 1, width + kernel[1] - 1)
    small = replace(
        problem, batch=images, height=given.height, width=given.width, padding=((0, 0), (0, 0)), dilation=(1, 1)
    )
    return Components(small, (y, x), parts, given, Place(given.end, images, problem.out_channels, height, width))


def is_dilated(problem: Problem) -> bool:
    """Whether there is a dilation between taps: a single tap has none."""
    return _steps(problem) != (1, 1)


def _steps(problem: Problem) -> tuple[int, int]:
    """The dilation along each axis that has several taps."""
    y, x = problem.dilation
    return y if problem.kernel_height > 1 else 1, x if problem.kernel_width > 1 else 1


def supports(problem: Problem) -> str | None:
    """Supports a dilation whose components have several outputs and are not far larger than the problem's arrays."""
    if not is_dilated(problem):
        return None
    found = components(problem)
    if found.out.height == found.out.width == 1:
        return "saves nothing with a dilation beyond the outputs"
    needed, most = found.out.end * ITEM_SIZE[problem.dtype], max(SCRATCH_BYTES, SCRATCH_SHARE * problem.bytes)
    return None if needed <= most else f"would need {needed / 2**20:.0f} MiB for the components of the input"


def make_split(step: int) -> Any:
    """The tile that sorts the input; `step` is the horizontal dilation."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is the small planes of some channels: those of one component of one image."""
        p, flat, since = unpack(parameters), x.reshape(x.size), ticks()
        height, width, small = x.shape[2], x.shape[3], p.small
        shares, size = (small.channels + CHANNELS - 1) // CHANNELS, small.height * small.width
        for unit in range(first, last):
            component, share = divmod(unit, shares)
            image, part = divmod(component, p.parts_y * p.parts_x)
            part_y, part_x = divmod(part, p.parts_x)
            channels = min(CHANNELS, small.channels - share * CHANNELS)
            target = small.begin + (component * small.channels + share * CHANNELS) * size
            clear(workspace[target : target + channels * size])
            above, before = max(0, p.top - part_y), max(0, p.left - part_x)
            first_row, first_column = (above + p.steps_y - 1) // p.steps_y, (before + step - 1) // step
            last_row = min(small.height, (height + p.top - part_y + p.steps_y - 1) // p.steps_y)
            count = min(small.width, (width + p.left - part_x + step - 1) // step) - first_column
            for channel in range(channels):
                plane = (image * small.channels + share * CHANNELS + channel) * height
                for row in range(first_row, last_row):
                    source = (plane + part_y + row * p.steps_y - p.top) * width + part_x + first_column * step - p.left
                    place = target + channel * size + row * small.width + first_column
                    for column in range(count):
                        workspace[place + column] = flat[source + column * step]
        lap(clock, 0, since)

    return tile


def make_merge(step: int) -> Any:
    """The tile that sorts the outputs; `step` is the horizontal dilation."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is one channel of one image."""
        p, flat, since = unpack(parameters), out.reshape(out.size), ticks()
        height, width, small = out.shape[2], out.shape[3], p.small
        for unit in range(first, last):
            image, channel = divmod(unit, small.channels)
            for row in range(height):
                small_row, part_y = divmod(row, p.steps_y)
                for part_x in range(p.parts_x):
                    part = (image * p.parts_y + part_y) * p.parts_x + part_x
                    place = (part * small.channels + channel) * small.height + small_row
                    source, target = small.begin + place * small.width, (unit * height + row) * width + part_x
                    for column in range((width - part_x + step - 1) // step):
                        flat[target + column * step] = workspace[source + column]
        lap(clock, 0, since)

    return tile


def around(work: Work, problem: Problem) -> Work:
    """The work of a dilated problem, from that of its components."""
    found = components(problem)
    (top, _), (left, _) = problem.padding
    sizes = Sizes(*found.steps, *found.parts, top, left, found.x)
    parts, step = Parts(found.x, found.out, found.out.end), (found.steps[1],)
    split = TileName(__name__, "make_split", step)
    merge = TileName(__name__, "make_merge", step)
    merged = pack(sizes._replace(small=found.out))
    return replace(
        work,
        phases=(
            Phase(split, found.x.images * ceil_div(problem.channels, CHANNELS), pack(sizes), ("split",)),
            *(on_parts(phase, parts) for phase in work.phases),
            Phase(merge, problem.batch * problem.out_channels, merged, ("merge",)),
        ),
        workspace_size=found.out.end + work.workspace_size,
        variant={**work.variant, "components": f"{found.parts[0]} x {found.parts[1]}"},
    )


def more_memory(needed: Footprint, problem: Problem) -> Footprint:
    """The memory of a dilated problem, from that of its components."""
    more = components(problem).out.end * ITEM_SIZE[problem.dtype]
    return replace(needed, workspace_bytes=needed.workspace_bytes + more)


def more_work(found: Cost, problem: Problem) -> Cost:
    """The work of a dilated problem, from that of its components: what is sorted is gathered element by element."""
    parts = components(problem)
    copied = (parts.x.size + parts.out.size) * ITEM_SIZE[problem.dtype]
    counts = dict(found.counts)
    counts["gathered bytes"] = counts.get("gathered bytes", 0.0) + copied
    return replace(found, counts=counts)

"""Direct convolution on the host with filters in the lanes of vectors.

A register block holds the sums of a few vectors of filters for a few pixels of a row. Pixels are read one by one, and
so strides need no rearrangement of the input: where nothing is padded it is read as it lies, unless its planes would
evict each other. Otherwise a first phase pads its planes, or, where these are large, each unit pads a band of them, if
it does not read too many weights for that.

A kernel of one tap without stride and padding takes the rows of an image as one long row: a matrix product. Rows of a
kernel that lie in the padding are left out.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.direct.filters_cut import BAND, INPUT, PLANES, STEPS, Blocking, blocking
from convbench.algorithms.direct.filters_loops import all_at_once, in_parts
from convbench.epilogue import Epilogue
from convbench.kernels import planes
from convbench.kernels.blocking import pack_weights, packed_size
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import Table, pack, unpacker
from convbench.kernels.grid import Grid, at_position, locate
from convbench.kernels.planes import Planes, Thinned, pad_plane
from convbench.kernels.tile import Phase, TileName, Work, jit
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("pad", "product and store")
PAD, PRODUCT = range(2)


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units.
        source: `INPUT`, `PLANES` or `BAND`.
        planes: The size of the planes, or of a band.
        channels: Channels of a group.
        height: Rows of the map of outputs.
        width: Columns of the map.
        rows: Rows of a unit.
        columns: Columns of a unit.
        plane_size: Elements from one channel to the next, where pixels are read.
        row_step: Likewise from one row of outputs to the next.
        column_step: Likewise from one pixel to the next.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
        top: Rows of padding above an image.
        stride: Vertical stride.
        dilation: Vertical dilation.
        row_taps: Of `outer`, those of a kernel row.
        together: Maximum number of units for the same pixels that are computed as one.
        depth: Of `outer`, those of a part of the taps; 0 where two loops go over them.
        band_size: Elements of a band, after which scratch holds sums between parts.
        outer: Offsets of (kernel row, channel); of (kernel row, channel, kernel column) where one loop goes over taps.
        inner: Offsets of kernel columns, where two loops do.
    """

    grid: Grid
    source: int
    planes: Planes
    channels: int
    height: int
    width: int
    rows: int
    columns: int
    plane_size: int
    row_step: int
    column_step: int
    blocks: int
    unit_blocks: int
    biases: int
    relu: int
    top: int
    stride: int
    dilation: int
    row_taps: int
    together: int
    depth: int
    band_size: int
    outer: Table
    inner: Table


unpack = unpacker(Parameters)


def make_tile(  # over 40 lines: four calls, one for each pair of constants
    vectors: int, pixels: int, rest: int, lanes: int, step: int, splits: int
) -> Any:
    """The tile for a register block of `vectors` x `pixels`.

    Args:
        vectors: Vectors of filters of a register block.
        pixels: Pixels of a register block.
        rest: Pixels of the one at the end of a row, if that is smaller; 0 if it is not.
        lanes: Filters of a vector.
        step: The stride of columns; 0 for any.
        splits: 1 if one loop goes over taps, all of them or those of a part, otherwise 0.
    """

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is `unit_blocks` register blocks of filters over a part of the map of one group of one image.

        Units for the same pixels are computed as one: a part of these is then read once for the filters of all.
        """
        p, flat, given, sizes = unpack(parameters), out.reshape(out.size), x.reshape(x.size), (out.shape[1], x.shape[2])
        source = given if p.source == INPUT else (workspace if p.source == PLANES else scratch)
        unit = first
        while unit < last:
            place = locate(p.grid, unit)
            count = at_position(p.grid, unit, last, p.together)
            end, unit = min(p.blocks, (place.filter_block + count) * p.unit_blocks), unit + count
            since = ticks()
            top = place.band * p.rows * p.row_step
            begin = place.segment * p.columns * p.column_step
            channel = place.group * p.channels
            if p.source == BAND:
                first_row = top // p.planes.width
                for number in range(p.channels):
                    target = number * p.plane_size
                    pad_plane(lanes, x, given, place.image, channel + number, p.planes, first_row, scratch, target)
            else:
                begin += (place.image * x.shape[1] + channel) * p.plane_size + top
            since = lap(clock, PAD, since)
            # constants are compared here: code that is made from functions would be compiled anew by every process
            if splits == 1 and step == 0:
                in_parts(
                    vectors,
                    pixels,
                    rest,
                    lanes,
                    p.column_step,
                    p,
                    place,
                    end,
                    begin,
                    source,
                    weights,
                    flat,
                    sizes,
                    scratch,
                )
            elif splits == 1:
                in_parts(
                    vectors, pixels, rest, lanes, step, p, place, end, begin, source, weights, flat, sizes, scratch
                )
            elif step == 0:
                all_at_once(
                    vectors, pixels, rest, lanes, p.column_step, p, place, end, begin, source, weights, flat, sizes
                )
            else:
                all_at_once(vectors, pixels, rest, lanes, step, p, place, end, begin, source, weights, flat, sizes)
            lap(clock, PRODUCT, since)

    return tile


def _parameters(problem: Problem, cut: Blocking, epilogue: Epilogue) -> Parameters:
    plane_size = cut.planes.height * cut.planes.width
    rows = np.arange(problem.kernel_height) * problem.dilation[0] * cut.planes.width
    outer = np.add.outer(rows, np.arange(problem.group_channels) * plane_size)
    inner = np.arange(problem.kernel_width) * problem.dilation[1]
    if cut.depth:
        outer, inner = np.add.outer(outer, inner), np.zeros(1, np.int64)
    return Parameters(
        grid=cut.grid(problem),
        source=cut.source,
        planes=cut.planes,
        channels=problem.group_channels,
        height=cut.height,
        width=cut.width,
        rows=cut.rows,
        columns=cut.columns,
        plane_size=plane_size,
        row_step=cut.planes.width * problem.stride[0],
        column_step=cut.step,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        top=problem.padding[0][0],
        stride=problem.stride[0],
        dilation=problem.dilation[0],
        together=cut.together,
        depth=cut.depth,
        band_size=cut.band_size(problem),
        biases=problem.groups * cut.blocks * cut.filters * problem.taps,
        relu=epilogue.relu,
        row_taps=outer[0].size,
        outer=outer.ravel(),
        inner=inner,
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights for the micro-kernel, followed by the biases; the blocking becomes the tile's parameters."""
    cut = blocking(problem)
    units, parameters = cut.grid(problem).units, pack(_parameters(problem, cut, epilogue))
    step = cut.step if cut.step in STEPS else 0
    tile = TileName(
        __name__,
        "make_tile",
        (cut.vectors, cut.pixels, cut.width % cut.pixels, cut.lanes, step, int(cut.depth > 0)),
    )
    phases = [Phase(tile, units, parameters, STAGES, cut.together)]
    if cut.thinned:
        thinning = TileName(planes.__name__, "make_thinning_tile", ())
        size = Thinned(cut.planes.height, cut.planes.width, *problem.stride)
        phases.insert(0, Phase(thinning, problem.batch * problem.channels, pack(size), planes.STAGES))
    elif cut.source == PLANES:
        padding = TileName(planes.__name__, "make_tile", (cut.lanes,))
        phases.insert(0, Phase(padding, problem.batch * problem.channels, pack(cut.planes), planes.STAGES))
    return Work(
        phases=tuple(phases),
        weights=pack_weights(problem, weights, cut.filters, epilogue, by_rows=True),
        scratch_size=cut.scratch_size(problem),
        workspace_size=cut.planes_size(problem),
        errors=of_sums(problem),
        variant={
            "register block": f"{cut.filters} filters in lanes x {cut.pixels}",
            "source": "thinned planes" if cut.thinned else ("input", "planes", "band")[cut.source],
            "units": units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band and for sums between parts, or a workspace for planes, and the packed weights."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    return Footprint(
        cut.scratch_size(problem) * item,
        packed_size(problem, cut.filters) * item,
        workspace_bytes=cut.planes_size(problem) * item,
    )

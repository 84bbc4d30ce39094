"""Reader and writer of the notation of oneDNN's benchdnn for a 2-D convolution.

For example `mb1ic3ih227iw227oc96oh55ow55kh11kw11sh4sw4n"alexnet:conv1"`; entries that are left out are deduced by the
rules of benchdnn's `doc/knobs_desc.md` and `conv/conv_aux.cpp`. A dense filter has dilation 0 in the notation, and
dilation 1 everywhere else in this package. A 1-D problem, which says nothing of rows, is a 2-D one of height 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from convbench.errors import RequestError, shown
from convbench.problem.axis import output_length, padding_after

T = TypeVar("T")

DTYPE_OF: Final = {"f32": "float32", "f64": "float64"}
DIRECTION_OF: Final = {
    "FWD_D": "forward",
    "FWD_B": "forward",  # with a bias, whose time is negligible
    "FWD_I": "forward",  # inference
    "BWD_D": "backward_data",
    "BWD_W": "backward_weights",
    "BWD_WB": "backward_weights",
}
_DT_OF: Final = {dtype: dt for dt, dtype in DTYPE_OF.items()}
_DIR_OF: Final = {"backward_data": "BWD_D", "backward_weights": "BWD_W"}
_EXAMPLE: Final = "'mb1ic3ih227oc96kh11sh4ph0n\"alexnet:conv1\"'"
_MINIBATCH: Final = 2  # benchdnn's default for `mb`

_ENTRY = re.compile(r"(g|mb|[io]c|[iok][hw]|[sdp][hw]|[iokspd]d)([0-9]{1,19})_?")  # at most 19 digits, as int64 has
_NAME = re.compile(r"""n(?P<quote>["']?)(?P<name>[^\s"']*)(?P=quote)""")


class DescriptorError(RequestError):
    """A descriptor that cannot be read; `position` is how many of its characters stand before what is wrong."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class NotFlatError(DescriptorError):
    """A descriptor of a 3-D problem."""


def write(problem: Mapping[str, Any]) -> str:
    """The descriptor of a problem, after the options that differ from benchdnn's defaults.

    Args:
        problem: The fields of a `Problem` by name, and its "output_height" and "output_width".
    """
    options = "" if problem["direction"] == "forward" else f"--dir={_DIR_OF[problem['direction']]} "
    options += "" if problem["dtype"] == "float32" else f"--dt={_DT_OF[problem['dtype']]} "
    (top, _), (left, _) = problem["padding"]
    (stride_y, stride_x), (dilation_y, dilation_x) = problem["stride"], problem["dilation"]
    return "".join(
        (
            options,
            f"g{problem['groups']}" if problem["groups"] > 1 else "",
            f"mb{problem['batch']}ic{problem['channels']}ih{problem['height']}iw{problem['width']}",
            f"oc{problem['out_channels']}oh{problem['output_height']}ow{problem['output_width']}",
            f"kh{problem['kernel_height']}kw{problem['kernel_width']}",
            f"sh{stride_y}sw{stride_x}" if problem["stride"] != (1, 1) else "",
            f"ph{top}pw{left}" if problem["padding"] != ((0, 0), (0, 0)) else "",
            f"dh{dilation_y - 1}dw{dilation_x - 1}" if problem["dilation"] != (1, 1) else "",
            f'n"{name}"' if (name := problem["name"]) else "",
        )
    )


def read(descriptor: str) -> dict[str, Any]:
    """The arguments of `Problem` for a descriptor.

    Raises:
        RequestError: The descriptor cannot be read, or its entries contradict each other.
    """
    if not isinstance(descriptor, str):
        raise RequestError(f"problem {shown(descriptor)} is no text; write it as in {_EXAMPLE}, or make a Problem")
    *options, text = descriptor.split() or [""]
    return {**read_shape(text), **_read_options(options, descriptor)}


def read_shape(text: str) -> dict[str, Any]:
    """The arguments of `Problem` for a descriptor without options.

    Raises:
        DescriptorError: The descriptor cannot be read, or its entries contradict each other.
        NotFlatError: It is of a 3-D problem.
    """
    entries, name = _read_entries(text)
    rows, columns = _axis(entries, "h", text), _axis(entries, "w", text)
    return {
        "height": rows.size,
        "width": columns.size,
        "out_channels": _required(entries, "oc", text),
        "kernel_height": rows.taps,
        "kernel_width": columns.taps,
        "batch": entries.get("mb", _MINIBATCH),
        "channels": _required(entries, "ic", text),
        "groups": entries.get("g", 1),
        "stride": (rows.stride, columns.stride),
        "padding": (rows.padding, columns.padding),
        "dilation": (rows.dilation, columns.dilation),
        "name": name,
    }


def _read_options(options: list[str], descriptor: str) -> dict[str, Any]:
    """The arguments of `Problem` that the options `--dir=`, `--dt=` and `--mb=` before a descriptor give."""
    arguments: dict[str, Any] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key == "--dir":
            arguments["direction"] = look_up("--dir", value, DIRECTION_OF)
        elif key == "--dt":
            arguments["dtype"] = look_up("--dt", one_type(value), DTYPE_OF)
        elif key == "--mb" and re.fullmatch("[0-9]{1,19}", value):
            arguments["batch"] = int(value)
        elif key != "--conv":
            raise RequestError(
                f"cannot read {shown(option)} in problem {shown(descriptor)}; use --dir=, --dt= or --mb=N"
            )
    return arguments


@dataclass(frozen=True)
class _Axis:
    """The entries of a descriptor for one axis, deduced ones included.

    Attributes:
        size: Length of the input.
        taps: Length of a filter, without dilation.
        stride: Step between neighbouring outputs.
        dilation: Distance between neighbouring taps; 1 for a dense filter.
        padding: Zeros before and after the input.
    """

    size: int
    taps: int
    stride: int
    dilation: int
    padding: tuple[int, int]


def _read_entries(text: str) -> tuple[dict[str, int], str]:
    """Split `g1mb2ic3...n"name"` into its entries and its name."""
    entries: dict[str, int] = {}
    name = ""
    position = 0
    while position < len(text):
        if (match := _ENTRY.match(text, position)) is not None:
            entry, value = match.groups()
            if entry.endswith("d") and int(value) != (entry == "sd"):  # other than what a 2-D problem has
                raise NotFlatError(
                    f"{entry}{value} in problem {shown(text)} makes it 3-D; only 2-D problems are known", position
                )
            entries[entry] = int(value)
        elif (match := _NAME.fullmatch(text, position)) is not None:
            name = match["name"]
        else:
            raise DescriptorError(
                f"cannot read problem {shown(text)} from {shown(text[position:])} on; write it as in {_EXAMPLE}",
                position,
            )
        position = match.end()
    return entries, name


def _axis(entries: Mapping[str, int], axis: Literal["h", "w"], text: str) -> _Axis:
    """The rows ("h") or the columns ("w") of a descriptor.

    Without an entry for columns, they equal the rows; without one for rows, the problem is 1-D, of one row.
    """
    if not _says(entries, axis):
        if axis == "w":
            return _axis(entries, "h", text)
        if _says(entries, "w"):
            return _Axis(size=1, taps=1, stride=1, dilation=1, padding=(0, 0))
    size = _required(entries, f"i{axis}", text)
    taps = _required(entries, f"k{axis}", text)
    stride = entries.get(f"s{axis}", 1)
    dilation = entries.get(f"d{axis}", 0) + 1
    padding = entries.get(f"p{axis}")
    output = entries.get(f"o{axis}", 0)
    if not output:
        return _Axis(size, taps, stride, dilation, (padding or 0, padding or 0))
    extent = (taps - 1) * dilation + 1
    if padding is None:
        padding = max(0, ((output - 1) * stride - size + extent) // 2)
    after = max(0, padding_after(size, output, extent, stride, padding))
    if stride and (possible := output_length(size, extent, stride, padding, after)) != output:
        raise DescriptorError(
            f"o{axis}{output} in problem {shown(text)} does not follow from the rest, which gives at least {possible}; "
            f"leave o{axis} out or mend it"
        )
    return _Axis(size, taps, stride, dilation, (padding, after))


def _says(entries: Mapping[str, int], axis: str) -> bool:
    """Whether a descriptor says anything of an axis; 0 says nothing, as in benchdnn."""
    return any(entries.get(letter + axis) for letter in "iokdp") or entries.get(f"s{axis}", 1) != 1


def _required(entries: Mapping[str, int], entry: str, text: str) -> int:
    if not entries.get(entry):
        raise DescriptorError(
            f"problem {shown(text)} does not say {entry} (or says 0); add {entry} with a number from 1 up"
        )
    return entries[entry]


def one_type(value: str) -> str:
    """`f32` for `f32:f32:f32`, which are those of input, weights and output; any other text as it is."""
    same = set(value.split(":"))
    return same.pop() if len(same) == 1 else value


def look_up(option: str, value: str, known: Mapping[str, T]) -> T:
    """What stands for the value of an option.

    Raises:
        RequestError: It is not known; the error lists those that are.
    """
    if value not in known:
        raise RequestError(f"{option}={shown(value)[1:-1]} is not known; choose from {', '.join(known)}")
    return known[value]

"""The options of benchdnn's batch files: those that decide which problems a descriptor stands for, and all others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from convbench.errors import RequestError, shown
from convbench.problem.notation import DIRECTION_OF, DTYPE_OF, look_up, one_type

OTHER_TYPES: Final = (
    *("bf16", "f16", "s32", "s8", "u8", "s4", "u4", "f8_e5m2", "f8_e4m3", "f4_e2m1", "f4_e3m0", "e8m0", "boolean"),
    "undef",
)
IGNORED: Final = frozenset(
    (
        *("conv", "bia-dt", "stag", "wtag", "dtag", "strides", "alg", "impl", "skip-impl", "perf-template", "ctx-init"),
        *("ctx-exe", "attr-scales", "attr-zero-points", "attr-post-ops", "attr-scratchpad", "attr-fpmath"),
        *("attr-acc-mode", "attr-rounding-mode", "attr-deterministic", "attr-dropout", "attr-precomputed-reductions"),
        *("attr-same-pd-check", "allow-enum-tags-only", "buffer-prefix", "canonical", "check-ref-impl", "cold-cache"),
        *("cpu-isa-hints", "engine", "execution-mode", "fast-ref", "fast-ref-gpu", "fix-times-per-prb"),
        *("max-ms-per-prb", "mem-check", "memory-kind", "mode", "mode-modifier", "num-streams", "repeats-per-prb"),
        *("start", "stream-kind", "summary", "verbose"),
    )
)
"""Those that change neither shape nor dtype: layouts, what is computed besides, and how benchdnn measures."""

LONGEST_PATTERN: Final = 200

_NUMBER = re.compile("[0-9]{1,18}")
_NOT_SIMPLE = re.compile(r"\\|\*.*\*|\[[^]]*(\[|--|&&|~~|\|\|)")  # escapes, two stars, sets within sets


@dataclass(frozen=True)
class Options:
    """What holds for the descriptors that follow; at first, benchdnn's defaults.

    Attributes:
        directions: Of `--dir`, each once.
        dtypes: Of `--dt`, each once: a dtype of ours, or benchdnn's word for one that is not measured.
        batches: Of `--mb`; 0 leaves a descriptor's own.
        pattern: Of `--match`; None takes every problem.
    """

    directions: tuple[str, ...] = ("forward",)
    dtypes: tuple[str, ...] = ("float32",)
    batches: tuple[int, ...] = (0,)
    pattern: re.Pattern[str] | None = None


def with_option(options: Options, word: str) -> Options:
    """The options after one more, such as "--dir=FWD_B,BWD_D".

    Raises:
        RequestError: Neither this package nor benchdnn's `--conv` has the option, or its value is wrong.
    """
    name, _, value = word.removeprefix("--").partition("=")
    if word.startswith("--") and name in _READ:
        return _READ[name](options, value)
    if (word.startswith("--") and name in IGNORED) or re.fullmatch("-v[0-9]*", word):
        return options
    raise RequestError(
        f"option {shown(word)} is not known; give --batch, --{', --'.join(_READ)}, or another one of benchdnn's --conv"
    )


def _dir(options: Options, value: str) -> Options:
    directions = [look_up("--dir", one.upper(), DIRECTION_OF) for one in _values(value, "FWD_B")]
    return replace(options, directions=tuple(dict.fromkeys(directions)))


def _dt(options: Options, value: str) -> Options:
    return replace(options, dtypes=tuple(dict.fromkeys(map(_dtype, _values(value, "f32")))))


def _dtype(word: str) -> str:
    """A dtype of ours, or the word for another type that benchdnn has."""
    same = one_type(word.removesuffix("_wino"))  # as --cfg had it
    if same in DTYPE_OF:
        return DTYPE_OF[same]
    for one in word.split(":"):
        look_up("--dt", one, dict.fromkeys((*DTYPE_OF, *OTHER_TYPES)))
    return word


def _cfg(options: Options, value: str) -> Options:
    """The older name of `--dt`, with words such as u8s8f32: whatever is neither f32 nor f64 is not measured."""
    words = [one.removesuffix("_wino") for one in _values(value, "f32")]
    for word in words:
        if not re.fullmatch("[a-z0-9_]{2,40}", word):
            raise RequestError(f"--cfg={shown(word)[1:-1]} is not known; give --dt=, such as --dt=f32")
    return replace(options, dtypes=tuple(dict.fromkeys(DTYPE_OF.get(one, one) for one in words)))


def _mb(options: Options, value: str) -> Options:
    batches = _values(value, "0")
    for batch in batches:
        if not _NUMBER.fullmatch(batch):
            raise RequestError(f"--mb={shown(batch)[1:-1]} is no number; give whole numbers from 0 up, such as 1,16")
    return replace(options, batches=tuple(dict.fromkeys(map(int, batches))))


def _match(options: Options, value: str) -> Options:
    """A basic regular expression, if it is simple enough to take little time on any text."""
    plain = value.removeprefix(".*").removesuffix(".*")
    if len(plain) > LONGEST_PATTERN or _NOT_SIMPLE.search(plain):
        raise RequestError(
            f"--match={shown(value)[1:-1]} is not understood; give at most {LONGEST_PATTERN} characters, without \\, "
            "with one * and plain brackets"
        )
    try:
        pattern = re.compile(re.sub(r"[(){}+?|]", r"\\\g<0>", plain))  # which stand for themselves in a basic one
    except re.error as error:
        raise RequestError(
            f"--match={shown(value)[1:-1]} is no regular expression ({error}); give one such as .*kh3.*"
        ) from None
    return replace(options, pattern=pattern if value else None)


def _reset(_: Options, __: str) -> Options:
    return Options()


def _values(value: str, default: str) -> list[str]:
    return (value or default).split(",")


_READ: Final[Mapping[str, Callable[[Options, str], Options]]] = {
    "dir": _dir,
    "dt": _dt,
    "cfg": _cfg,
    "mb": _mb,
    "match": _match,
    "reset": _reset,
}

"""A request with everything filled in, and what else determines a sweep: what sweep.json holds as its "spec"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from convbench.errors import RequestError
from convbench.request import Request, forms
from convbench.request.field import Field, stored
from convbench.shape import AMOUNT, COUNT, DESCRIPTOR, LOOPS, NAME, SECONDS, TEXT, Fields

ORDERS: Final = ("cells", "problems")
KINDS: Final = {"float": AMOUNT, "int": COUNT, "str": TEXT, "tuple[str, ...]": [TEXT]}


@dataclass(frozen=True)
class Timing:
    """How long to warm up and how often to sample.

    Attributes:
        sample_seconds: Each sample lasts at least this long; shorter calls are repeated within one.
        min_samples: Take at least so many samples, unless they last longer than `max_seconds` together.
        max_samples: Never take more.
        min_seconds: Go on until the samples last so long together.
        max_seconds: Stop once they do.
        max_warmups: Give up waiting for times to settle after so many calls ...
        warmup_seconds: ... or so many seconds.
        settled: Times have settled when two calls in a row differ by less than this share.
        wake_seconds: Keep a GPU busy for so long before its first call counts, and cores at most so long.
        peak_repetitions: How often each of the machine's limits is measured before the first run; 0 leaves them out.
    """

    sample_seconds: float = 0.01
    min_samples: int = 3
    max_samples: int = 30
    min_seconds: float = 0.6
    max_seconds: float = 2.0
    max_warmups: int = 6
    warmup_seconds: float = 1.5
    settled: float = 0.1
    wake_seconds: float = 0.2
    peak_repetitions: int = 10


Networks = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""The name of each network, and with it descriptors of its layers and how often it has each."""


@dataclass(frozen=True)
class Source:
    """The picture that a problem's input comes from, and the digest of a bank of filters that comes from a file."""

    problem: str
    path: str
    sha256: str
    steps: tuple[str, ...]
    kernels_sha256: str = ""


def _shape_of(kind: type, *needed: str) -> Fields:
    """The shape of a dataclass in JSON, by the types of its fields."""
    return Fields({field.name: KINDS[str(field.type)] for field in dataclasses.fields(kind)}, needed)


def _timing(_: str, value: Timing | Mapping[str, Any] | None) -> Timing:
    return value if isinstance(value, Timing) else Timing(**(value or {}))


def _networks(_: str, value: Networks | Mapping[str, Mapping[str, int]]) -> Networks:
    networks = value.items() if isinstance(value, Mapping) else value
    return tuple((name, tuple(dict(layers).items())) for name, layers in networks)


def _source(_: str, value: Source | Mapping[str, Any] | None) -> Source | None:
    if value is None or isinstance(value, Source):
        return value
    return Source(**{**value, "steps": tuple(value["steps"])})


def _source_as_json(source: Source | None) -> dict[str, Any] | None:
    """The digest of the filters is left out where there is none, as versions read it that do not know it."""
    if source is None:
        return None
    return {name: value for name, value in dataclasses.asdict(source).items() if value or name != "kernels_sha256"}


@dataclass(unsafe_hash=True, kw_only=True)
class StoredSpec(Request):
    """Everything that determines a sweep's cells, their data and their order; `image` has become `source`."""

    source: Field[Source | Mapping[str, Any] | None, Source | None] = Field(
        _source,
        None,
        "The picture that is the input of one of the problems; the others get random numbers.",
        stored=(None, _shape_of(Source, "path", "steps")),
        write=_source_as_json,
        needed=True,
        manner=True,
    )
    timing: Field[Timing | Mapping[str, Any] | None, Timing] = Field(
        _timing,
        None,
        "How long to warm up and how often to sample.",
        stored=_shape_of(Timing),
        write=dataclasses.asdict,
        needed=True,
    )
    networks: Field[Networks, Networks] = Field(
        _networks,
        (),
        "How often each network has each of the problems, by descriptor, where the problems' names do not tell.",
        stored={NAME: {DESCRIPTOR: LOOPS}},
        write=lambda networks: {name: dict(layers) for name, layers in networks},
        optional=True,
    )
    cell_limit: Field[float, float] = Field(
        forms.seconds, 600.0, "Seconds after which a cell counts as hanging.", stored=SECONDS
    )
    shuffle: Field[str, str] = Field(
        forms.word(ORDERS),
        "problems",
        '"problems": problems in random order, and the cells of each, too; "cells": all in one random order.',
        stored=TEXT,
        absent="cells",
        optional=True,
        manner=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.problems:
            raise RequestError("problems is empty; name at least one")

    @property
    def problems_without_picture(self) -> tuple[str, ...]:
        """Those that were asked for by descriptor."""
        return tuple(one for one in self.problems if self.source is None or one != self.source.problem)

    def for_workers(self) -> dict[str, Any]:
        """The spec as JSON for who measures cells in the order told, and so need not know what else it says."""
        return dataclasses.replace(self, shuffle="cells", networks=()).to_json()

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON can hold it, and as versions read it that know nothing of what is not used."""
        fields = stored(type(self))
        found = {name: field.write(getattr(self, name)) for name, field in fields.items()}
        for name in [name for name, field in fields.items() if field.optional]:
            without = {key: value for key, value in found.items() if key != name}
            if self.from_json(without) == self:
                found = without
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            RequestError: It is of another version, or names what this one does not know.
        """
        fields = stored(cls)
        try:
            absent = {name: field.absent for name, field in fields.items() if not field.needed}
            values = {**absent, **data}
            return cls(**{name: values.pop(name) for name in fields}, **values)  # what is left, it does not know
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"the sweep's spec cannot be used ({error}); use the convbench that wrote it") from None

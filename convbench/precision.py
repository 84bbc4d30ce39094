"""Precisions of products, as values: one entry of `PRECISIONS` for each.

A form offers an implementation for each precision that it supports (see `algorithms.Implementation`), an executor
reports which precisions it supports, and the check of an output applies the precision's tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from convbench.registry import Entry, Table


@dataclass(frozen=True)
class Precision:
    """The precision in which products are computed.

    Attributes:
        name: Name in `PRECISIONS`.
        rounds: How the factors of a product are rounded, in words.
        tolerance: For each dtype that the precision supports, the largest error of an output that a check allows,
            divided by the largest output.
    """

    name: str
    rounds: str
    tolerance: Mapping[str, float]

    def unsupported_reason(self, dtype: str) -> str | None:
        """Why the precision does not support a dtype; None if it does."""
        return None if dtype in self.tolerance else f"computes no {dtype} in {self.name}"


EXACT: Final = Precision("exact", "nothing", {"float32": 1e-5, "float64": 1e-13})
"""Products in the problem's dtype."""

TF32: Final = Precision("tf32", "to TF32, with 10 bits behind the point", {"float32": 2e-3})
"""Products on tensor cores; see `measure.reference` for the tolerance."""

PRECISIONS: Table[Precision] = Table(
    "precision",
    [
        Entry("exact", "convbench.precision:EXACT", "products in the problem's dtype"),
        Entry("tf32", "convbench.precision:TF32", "factors rounded to TF32, on a GPU's tensor cores"),
    ],
)

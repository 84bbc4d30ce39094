"""How far the factors of products may be rounded, as values: one line of `PRECISIONS` each.

A form offers an implementation for each precision that it has (see `algorithms.Implementation`), an executor says which
it can compute in, and the check of an output allows what the precision costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from convbench.registry import Entry, Table


@dataclass(frozen=True)
class Precision:
    """What products are computed in.

    Attributes:
        name: As in `PRECISIONS`.
        rounds: What happens to the factors of a product, in words.
        tolerance: For each dtype of a problem that the precision is for: the largest error of an output that a check
            allows, over the largest output.
    """

    name: str
    rounds: str
    tolerance: Mapping[str, float]

    def unsupported_reason(self, dtype: str) -> str | None:
        """Why products of a dtype cannot be computed so; None where they can."""
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

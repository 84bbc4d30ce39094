"""Who has which rows of an input that is cut into bands, and who sends whom what others' bands reach into.

Bands overlap where kernels of two of them read the same rows. Each row belongs to one band: of what two neighbours both
read, each has the half on its side, so that both send the other one a message of about the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Range = tuple[int, int]  # [first, last)


@dataclass(frozen=True)
class Message:
    """Rows that one band's worker sends another one's.

    Attributes:
        source: Number of the band that has them.
        target: Number of the band that reads them.
        rows: In rows of the whole input.
    """

    source: int
    target: int
    rows: Range


def owned(reads: Sequence[Range]) -> list[Range]:
    """The rows that each band has; where all bands read the same rows, each has all that it reads.

    Args:
        reads: The rows that each band reads; neither begins nor ends decrease from one band to the next.
    """
    if len(set(reads)) == 1:
        return list(reads)
    begins, ends = [reads[0][0]], []
    for (_, end), (begin, _) in pairwise(reads):
        middle = (begin + end) // 2
        ends.append(min(end, middle) if begin <= end else end)
        begins.append(max(begin, middle) if begin <= end else begin)
    return list(zip(begins, [*ends, reads[-1][1]], strict=True))


def messages(reads: Sequence[Range], number: int) -> list[Message]:
    """What the worker of a band sends and receives, in the order of the other bands."""
    have = owned(reads)
    if have == list(reads):
        return []
    found = []
    for other in range(len(reads)):
        if other != number:
            for source, target in ((number, other), (other, number)):
                first, last = max(have[source][0], reads[target][0]), min(have[source][1], reads[target][1])
                if first < last:
                    found.append(Message(source, target, (first, last)))
    return found

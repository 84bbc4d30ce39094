"""What lies between two nodes: a latency and a bandwidth, known or fitted to what moving data took.

Moving n bytes takes latency + n / bandwidth seconds (Hockney, "The communication challenge for MPP: Intel Paragon and
Meiko CS-2", Parallel Computing 20(3), 1994). Both directions of a link work at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from convbench.nonnegative import least_squares


@dataclass(frozen=True)
class Link:
    """A node's way to the others.

    Attributes:
        latency: Seconds of a message without content.
        bandwidth: Bytes a second.
    """

    latency: float
    bandwidth: float

    def seconds(self, messages: float, moved: float) -> float:
        """Seconds of so many messages, one after the other, that move so many bytes in all."""
        return messages * self.latency + moved / self.bandwidth


class Transfer(NamedTuple):
    """What a measured movement of data consisted of: messages and bytes through the busiest link, and its seconds."""

    messages: float
    moved: float
    seconds: float


def fitted(transfers: Iterable[Transfer]) -> Link | None:
    """The link that explains some transfers best: least squares of relative deviations, nothing negative.

    Args:
        transfers: That took any time. Where all have as many bytes for each message, the latency is 0 and the bandwidth
            has all of it.

    Returns:
        The link; None where there are no transfers, or where they do not take longer for more bytes.
    """
    found = [each for each in transfers if each.seconds > 0 and each.moved > 0]
    if not found:
        return None
    messages, moved, seconds = np.array(found, float).T
    if np.linalg.matrix_rank(np.stack([messages / messages.max(), moved / moved.max()])) < 2:
        return Link(0.0, float(1 / np.mean(seconds / moved)))
    latency, inverse = weights((messages, moved), seconds)
    return Link(latency, 1 / inverse) if inverse > 0 else None


def weights(terms: tuple[ArrayLike, ArrayLike], seconds: ArrayLike) -> tuple[float, float]:
    """The weights, none of them negative, with which the sum of two terms comes closest to some seconds.

    Least squares of relative deviations, since the deviation of times is proportional to them.
    """
    columns, times = np.stack([np.asarray(term, float) for term in terms], axis=1), np.asarray(seconds, float)
    scale = columns.max(axis=0)
    one, other = least_squares(columns / scale / times[:, None], np.ones(len(times))) / scale
    return float(one), float(other)

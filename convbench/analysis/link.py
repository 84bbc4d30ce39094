"""What lies between two nodes: a latency and a bandwidth, known or fitted to what moving data took.

Moving n bytes takes latency + n / bandwidth seconds (Hockney, "The communication challenge for MPP: Intel Paragon and
Meiko CS-2", Parallel Computing 20(3), 1994). Both directions of a link work at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


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
    from scipy import optimize

    found = np.array([transfer for transfer in transfers if transfer.seconds > 0 and transfer.moved > 0], float)
    if not found.size:
        return None
    messages, moved, seconds = found.T
    if np.linalg.matrix_rank(np.stack([messages / messages.max(), moved / moved.max()])) < 2:
        return Link(0.0, float(1 / np.mean(seconds / moved)))
    scale = np.array([messages.max(), moved.max()])
    (latency, inverse), _ = optimize.nnls(found[:, :2] / scale / seconds[:, None], np.ones(len(found)))
    if inverse <= 0:
        return None
    return Link(float(latency / scale[0]), float(scale[1] / inverse)) if math.isfinite(latency) else None

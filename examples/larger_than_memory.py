"""An image and a batch that are four times as large as the workers' memory together, convolved on a local Dask cluster.

    python examples/larger_than_memory.py [SIDE] [PHOTOGRAPHS]      40000 and 256 unless told otherwise

Dask arrays in, Dask arrays out: nothing is computed before it is asked for, and no output is ever whole.
"""

from __future__ import annotations

import sys
import time

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import convbench
from convbench.images import default_image, load_image


def one_image(side: int) -> None:
    """The mean square of white noise, convolved: the sum of the kernel's squares."""
    kernel = np.random.default_rng(0).standard_normal((1, 11, 11)).astype("float32")
    x = da.random.default_rng(1).standard_normal((side, side), dtype="float32", chunks=(min(side, 1000), side))
    begin = time.perf_counter()
    y = convbench.conv2d(x, kernel, padding="same")
    mean_square = float((y.astype("float64") ** 2).mean().compute())
    seconds, expected = time.perf_counter() - begin, float((kernel.astype("float64") ** 2).sum())
    print(f"{side} x {side}, {(x.nbytes + y.nbytes) / 1e9:.1f} GB in and out: {seconds:.1f} s")
    print(f"mean square {mean_square:.1f}, expected {expected:.1f}")


def photographs(number: int) -> None:
    """The mean of each output, which grows with the brightness of its photograph."""
    kernels = np.random.default_rng(0).standard_normal((32, 1, 11, 11)).astype("float32")
    photograph = load_image(default_image()).pixels
    brightness = 1 + np.arange(number, dtype="float32") / number
    batch = da.stack([da.from_array(photograph, chunks=-1) * factor for factor in brightness])[:, None]
    begin = time.perf_counter()
    y = convbench.conv2d(batch, kernels)
    means = y.mean(axis=(2, 3), dtype="float64").compute()
    seconds = time.perf_counter() - begin
    alone = convbench.conv2d(photograph, kernels).mean(axis=(1, 2), dtype="float64")
    error = np.abs(means - brightness[:, None] * alone).max() / np.abs(alone).max()
    print(f"{number} photographs, {(batch.nbytes + y.nbytes) / 1e9:.1f} GB in and out: {seconds:.1f} s")
    print(f"largest relative error of a mean {error:.0e}")


def main() -> None:
    """Two workers of 1.5 GiB."""
    given = [int(word) for word in sys.argv[1:]]
    side, number = given + [40000, 256][len(given) :]
    workers = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1.5GiB", "dashboard_address": None}
    with LocalCluster(**workers) as cluster, Client(cluster):
        one_image(side)
        photographs(number)


if __name__ == "__main__":
    main()

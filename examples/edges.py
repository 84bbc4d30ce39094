"""Edges of a picture: Sobel's filters by `convbench.conv2d`.

    python examples/edges.py [PICTURE] [EDGES]

writes the magnitude of the gradient, which is what a program would go on with. The filters never change, so they are
made read-only: `conv2d` then packs them once.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import convbench

HERE = Path(__file__).parent
SMOOTH, SLOPE = np.array([1, 2, 1], np.float32), np.array([-1, 0, 1], np.float32)
SOBEL = np.stack([np.outer(SMOOTH, SLOPE), np.outer(SLOPE, SMOOTH)])  # shape (2, 3, 3): horizontal, vertical
SOBEL.setflags(write=False)


def edges(picture: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient of a picture of shape (rows, columns), float32, of the same shape."""
    padded = np.pad(picture, 1, mode="edge")  # zeros around the picture would be edges of their own
    across, down = convbench.conv2d(padded, SOBEL)
    return np.hypot(across, down)


def main(picture: str = str(HERE.parent / "images" / "photograph.png"), target: str = "edges.png") -> None:
    """Read a picture, write its edges."""
    grey = np.asarray(Image.open(picture).convert("L"), np.float32)
    found = edges(grey)
    Image.fromarray(np.uint8(255 * found / max(found.max(), 1))).save(target)
    choice = convbench.choose(
        convbench.Problem(
            height=grey.shape[0] + 2, width=grey.shape[1] + 2, out_channels=2, kernel_height=3, kernel_width=3
        )
    )
    print(f"{target}: {grey.shape[1]} x {grey.shape[0]}; computed by {choice.candidate}")


if __name__ == "__main__":
    main(*sys.argv[1:])

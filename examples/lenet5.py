"""A forward pass of LeNet-5 (LeCun et al., 1998) with `convbench.Conv2d`, as a program with trained weights runs it.

    python examples/lenet5.py

Weights are random here; a program loads its own. Each layer chooses its form for the shape that it is given, once.
"""

import numpy as np

import convbench

DRAW = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    """Random weights of a size at which activations neither vanish nor explode."""
    return (DRAW.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def pooled(x: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 block: (images, channels, rows, columns) to half of the rows and columns."""
    images, channels, rows, columns = x.shape
    return x.reshape(images, channels, rows // 2, 2, columns // 2, 2).mean(axis=(3, 5))


class LeNet5:
    """The network: two convolutions, each with pooling, and three dense layers; C5 is a convolution of one output."""

    def __init__(self) -> None:
        self.c1 = convbench.Conv2d(weights(6, 1, 5, 5), weights(6), padding=2, activation="relu")
        self.c3 = convbench.Conv2d(weights(16, 6, 5, 5), weights(16), activation="relu")
        self.c5 = convbench.Conv2d(weights(120, 16, 5, 5), weights(120), activation="relu")
        self.f6, self.output = weights(84, 120), weights(10, 84)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Scores of the ten digits: (images, 1, 28, 28) to (images, 10)."""
        x = pooled(self.c1(x))
        x = pooled(self.c3(x))
        x = self.c5(x)[:, :, 0, 0]
        return np.maximum(x @ self.f6.T, 0) @ self.output.T


def main() -> None:
    """Score sixteen images of noise."""
    network = LeNet5()
    scores = network(DRAW.standard_normal((16, 1, 28, 28)).astype(np.float32))
    print("digits:", *scores.argmax(axis=1))
    for name, layer, shape in (
        ("C1", network.c1, (16, 1, 28, 28)),
        ("C3", network.c3, (16, 6, 14, 14)),
        ("C5", network.c5, (16, 16, 5, 5)),
    ):
        print(f"{name}: {layer.choice(shape).candidate}")


if __name__ == "__main__":
    main()

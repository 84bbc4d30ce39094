"""The filters of the experiment: a bank of Gabor filters, random numbers, or an .npy file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convbench.arguments import path as given_path
from convbench.errors import RequestError

ORIENTATIONS: Final = 16
WAVELENGTHS: Final = 8  # 16 x 8 = the 128 filters of the multicore experiment
SIZE: Final = 11  # 11 x 11, as in that experiment
_BANDWIDTH: Final = 0.56  # sigma / wavelength at a half-response bandwidth of one octave (Petkov, 1995)
_ASPECT: Final = 0.5  # how much longer than wide the envelope is (Petkov, 1995)
LARGEST: Final = float(np.finfo(np.float32).max)  # filters are computed in float32
KINDS: Final = ("gabor", "random")


def filter_bank(kind: str, seed: int = 0) -> NDArray[np.float64]:
    """The bank that `--kernels` names: "gabor", "random" (128 of 11 x 11 from `seed`), or the path of an .npy file.

    Returns:
        float64, shape (filters, rows, columns).

    Raises:
        RequestError: The file is missing or is not an array file, or its array is not a bank of finite numbers.
    """
    if kind == "gabor":
        return gabor_bank()
    if kind == "random":
        return np.random.default_rng(seed).standard_normal((ORIENTATIONS * WAVELENGTHS, SIZE, SIZE))
    return load_bank(kind)


def resolved(kind: str) -> str:
    """The name for `filter_bank` with the path of a file made absolute; a name that is no file is unchanged."""
    return kind if kind in KINDS or not Path(kind).exists() else str(Path(kind).resolve())


def sha256(kind: str, bank: NDArray[np.float64]) -> str:
    """Digest of a bank from a file, to tell whether two sweeps used the same; empty for a bank that is generated."""
    return "" if kind in KINDS else hashlib.sha256(np.ascontiguousarray(bank).tobytes()).hexdigest()


def gabor_bank() -> NDArray[np.float64]:
    """128 Gabor filters of 11 x 11: 16 orientations by 8 wavelengths, each of zero mean and unit norm.

    g(x, y) = exp(-(u^2 + (aspect v)^2) / (2 sigma^2)) cos(2 pi u / wavelength), with (u, v) the coordinates turned by
    the orientation and sigma = 0.56 wavelength (Daugman, 1985; the parameters as in Petkov, 1995).

    Returns:
        float64, shape (128, 11, 11); the wavelength changes fastest.
    """
    reach = SIZE // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    angle = (np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS)[:, None, None, None]
    wavelength = np.geomspace(2.5, SIZE, WAVELENGTHS)[None, :, None, None]
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    envelope = np.exp(-(u**2 + (_ASPECT * v) ** 2) / (2 * (_BANDWIDTH * wavelength) ** 2))
    bank = (envelope * np.cos(2 * np.pi * u / wavelength)).reshape(-1, SIZE, SIZE)
    bank = bank - bank.mean(axis=(1, 2), keepdims=True)
    return np.asarray(bank / np.sqrt((bank**2).sum(axis=(1, 2), keepdims=True)))


def load_bank(path: str | Path) -> NDArray[np.float64]:
    """Read a bank, shape (filters, rows, columns), from an .npy file without pickled objects.

    Returns:
        float64, of the file's shape.

    Raises:
        RequestError: The file is missing or is not an array file, or its array is not a bank of finite numbers.
    """
    path = given_path("kernels", path)
    where = f"kernels {str(path)!r}"
    try:
        with path.open("rb") as file:
            is_array = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        bank = np.load(path, allow_pickle=False) if is_array else None
    except FileNotFoundError:
        raise RequestError(f"{where} do not exist; choose from {', '.join(KINDS)}, or give an .npy file") from None
    except Exception as error:  # noqa: BLE001  # on damaged files, NumPy raises errors of any type
        words = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{where} cannot be read ({words}); save a plain array of numbers") from None
    if bank is None:
        raise RequestError(f"{where} are no .npy file; save one array with numpy.save")
    if bank.ndim != 3:
        raise RequestError(f"{where} have shape {bank.shape}; three axes are needed: (filters, rows, columns)")
    if not bank.size:
        raise RequestError(f"{where} are empty (shape {bank.shape}); save at least one filter of one tap")
    if not (np.issubdtype(bank.dtype, np.floating) or np.issubdtype(bank.dtype, np.integer)):
        raise RequestError(f"{where} hold {bank.dtype}; save integers or floating-point numbers")
    if not np.isfinite(bank).all():
        raise RequestError(f"{where} hold NaN or infinity; save finite numbers only")
    if float(np.abs(bank).max()) > LARGEST:
        raise RequestError(f"{where} hold numbers beyond {LARGEST:.3g}, the largest of float32; scale them down")
    return np.asarray(bank, np.float64)

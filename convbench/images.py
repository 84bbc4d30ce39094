"""The image that the experiment convolves: a picture in any format of Pillow's, as one channel."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from convbench.arguments import path as given_path
from convbench.errors import RequestError

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601-7, section 2.5.1
_ORIENTATION = 0x0112  # EXIF tag
_LARGEST_16_BIT = 65535


@dataclass(frozen=True)
class Image:
    """A grayscale picture.

    Attributes:
        path: The picture's file.
        pixels: float32, shape (height, width), from 0 (black) to 1 (white).
        steps: The conversions of the file's pixels, in order.
    """

    path: Path
    pixels: NDArray[np.float32]
    steps: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest of the pixels, to tell whether two sweeps used the same picture."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()


def default_image() -> Path:
    """The photograph that comes with convbench (see images/README.md for its source and credit)."""
    installed = Path(__file__).parent / "data" / "images" / "photograph.png"
    return installed if installed.exists() else Path(__file__).parents[1] / "images" / "photograph.png"


def load_image(path: str | Path) -> Image:
    """Read a picture as luminance, upright, from 0 to 1.

    Colour becomes luminance, a palette is looked up, 16-bit samples keep their 16 bits, transparency is dropped, and
    the EXIF orientation is honoured.

    Raises:
        RequestError: The file does not exist, is not a picture, is damaged, or is too large for Pillow or for memory.
    """
    path = given_path("image", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures and damaged tags; failures raise errors
            with PillowImage.open(path) as picture:
                picture.load()
                return _to_luminance(path, picture)
    except FileNotFoundError:
        raise RequestError(f"image {str(path)!r} does not exist; give the path of a picture") from None
    except UnidentifiedImageError:
        raise RequestError(
            f"image {str(path)!r} is not a picture that Pillow reads; convert it to PNG, JPEG or TIFF"
        ) from None
    except PillowImage.DecompressionBombError as error:
        size, *_ = re.findall(r"\d+ pixels", str(error)) or ["too many pixels"]
        raise RequestError(
            f"image {str(path)!r} has {size}; at most {2 * (PillowImage.MAX_IMAGE_PIXELS or 0)} are read; scale it down"
        ) from None
    except MemoryError:
        raise RequestError(f"image {str(path)!r} does not fit into memory; scale it down") from None
    except Exception as error:  # noqa: BLE001  # on damaged files, decoders raise errors of any type
        words = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(
            f"image {str(path)!r} cannot be read ({words}); give a whole picture that may be read"
        ) from None


def _to_luminance(path: Path, picture: PillowImage.Image) -> Image:
    """Convert a decoded picture of any mode."""
    steps = []
    if getattr(picture, "n_frames", 1) > 1:
        steps.append("took the first frame")
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
        steps.append("turned upright by its EXIF orientation")
    if picture.mode in ("P", "PA"):
        steps.append("looked up its palette")
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if picture.has_transparency_data:
        steps.append("dropped its transparency")
        picture = picture.convert("L" if picture.mode in ("LA", "La") else "RGB")
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode == "L":
        pixels = np.asarray(picture, np.float32) / np.float32(255)
    elif picture.mode == "F" or picture.mode.startswith("I"):
        pixels = _scaled(np.asarray(picture), steps)
    else:
        if picture.mode != "RGB":
            steps.append(f"converted from {picture.mode} to RGB")
            picture = picture.convert("RGB")
        pixels = np.asarray(picture, np.float32) @ LUMINANCE / np.float32(255)
        steps.append("turned colour to luminance (ITU-R BT.601)")
    return Image(path, np.ascontiguousarray(pixels, np.float32), tuple(steps))


def _scaled(samples: NDArray[np.generic], steps: list[str]) -> NDArray[np.float32]:
    """Samples of more than 8 bits, scaled to 0 to 1."""
    values = samples.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    lowest, highest = float(values.min()), float(values.max())
    if np.issubdtype(samples.dtype, np.integer) and lowest >= 0 and highest <= _LARGEST_16_BIT:
        steps.append("scaled from 16 bits")
        return (values / _LARGEST_16_BIT).astype(np.float32)
    if lowest < 0 or highest > 1:
        steps.append(f"scaled from {lowest:g} to {highest:g}")
        values = (values - lowest) / (highest - lowest if highest > lowest else 1.0)
    return values.astype(np.float32)

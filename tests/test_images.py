"""Pictures of every kind become the same kind of image, and what was done to them is said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image as PillowImage

from convbench.errors import RequestError
from convbench.images import LUMINANCE, default_image, load_image

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (20, 30), np.uint8)
COLOUR = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)


def saved(tmp_path: Path, picture: PillowImage.Image, name: str = "p.png", **options: object) -> Path:
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_the_photograph_that_comes_along_is_the_papers_size():
    image = load_image(default_image())
    assert image.pixels.shape == (720, 1280)
    assert image.pixels.dtype == np.float32
    assert image.steps == ()
    assert 0 <= image.pixels.min() < 0.1
    assert 0.9 < image.pixels.max() <= 1


def test_gray_is_scaled_and_otherwise_left_alone(tmp_path):
    image = load_image(saved(tmp_path, PillowImage.fromarray(GRAY)))
    np.testing.assert_allclose(image.pixels, GRAY / 255, rtol=1e-6)
    assert image.steps == ()


def test_colour_becomes_luminance(tmp_path):
    image = load_image(saved(tmp_path, PillowImage.fromarray(COLOUR)))
    np.testing.assert_allclose(image.pixels, COLOUR @ LUMINANCE / 255, rtol=1e-5)
    assert image.steps == ("turned colour to luminance (ITU-R BT.601)",)


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    samples = RANDOM.integers(0, 65536, (20, 30), np.uint16)
    image = load_image(saved(tmp_path, PillowImage.fromarray(samples)))
    np.testing.assert_allclose(image.pixels, samples / 65535, rtol=1e-6)
    assert image.steps == ("scaled from 16 bits",)


def test_a_palette_is_looked_up(tmp_path):
    paletted = PillowImage.fromarray(COLOUR).quantize(256)
    image = load_image(saved(tmp_path, paletted))
    expected = np.asarray(paletted.convert("RGB")) @ LUMINANCE / 255
    np.testing.assert_allclose(image.pixels, expected, rtol=1e-5)
    assert image.steps[0] == "looked up its palette"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path, mode):
    picture = PillowImage.fromarray(COLOUR).convert("RGB" if mode == "RGBA" else "L")
    expected = load_image(saved(tmp_path, picture, "opaque.png")).pixels
    picture.putalpha(PillowImage.fromarray(GRAY))
    image = load_image(saved(tmp_path, picture))
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.steps[0] == "dropped its transparency"


@pytest.mark.parametrize("mode", ["1", "CMYK", "F", "I"])
def test_other_modes_come_out_between_black_and_white(tmp_path, mode):
    image = load_image(saved(tmp_path, PillowImage.fromarray(COLOUR).convert("L").convert(mode), "p.tiff"))
    assert image.pixels.shape == (20, 30)
    assert 0 <= image.pixels.min() < image.pixels.max() <= 1


def test_the_exif_orientation_is_honoured(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = load_image(saved(tmp_path, PillowImage.fromarray(GRAY), exif=exif))
    np.testing.assert_allclose(image.pixels, np.rot90(GRAY, -1) / 255, rtol=1e-6)
    assert image.steps == ("turned upright by its EXIF orientation",)


def test_only_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [PillowImage.fromarray(GRAY), PillowImage.fromarray(GRAY[::-1])]
    image = load_image(saved(tmp_path, frames[0], "p.gif", save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(image.pixels, GRAY / 255, rtol=1e-5)
    assert "took the first frame" in image.steps


def test_the_digest_tells_pictures_apart(tmp_path):
    one = load_image(saved(tmp_path, PillowImage.fromarray(GRAY), "one.png"))
    same = load_image(saved(tmp_path, PillowImage.fromarray(GRAY), "same.bmp"))
    other = load_image(saved(tmp_path, PillowImage.fromarray(GRAY[::-1]), "other.png"))
    assert one.sha256 == same.sha256 != other.sha256


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that says it is 50,000 x 50,000."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return path


def damaged(tmp_path: Path) -> dict[str, Path]:
    """Files that are no pictures, each in its own way."""
    text, truncated = tmp_path / "text.png", tmp_path / "truncated.png"
    text.write_text("no picture")
    truncated.write_bytes(default_image().read_bytes()[:50_000])
    return {
        "does not exist": tmp_path / "missing.png",
        "not a picture": text,
        "truncated": truncated,
        "2500000000 pixels": bomb(tmp_path / "bomb.png"),
        "cannot be read": tmp_path,
    }


def test_what_is_no_picture_is_one_clear_error(tmp_path):
    for words, path in damaged(tmp_path).items():
        with pytest.raises(RequestError) as error:
            load_image(path)
        assert words in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [None, "", 1, b"p.png", "nul\0"])
def test_what_is_no_path_is_one_clear_error(path):
    with pytest.raises(RequestError, match=r"^image=.+ is not allowed"):
        load_image(path)


def test_whatever_a_decoder_runs_into_is_one_clear_error(tmp_path, monkeypatch):
    path = saved(tmp_path, PillowImage.fromarray(GRAY))
    errors = [
        TypeError("Missing\ndimensions"),
        NotImplementedError(),
        struct.error("short"),
        KeyError(7),
        MemoryError(),
    ]
    for error in [*errors, PillowImage.DecompressionBombError("more than is allowed")]:
        monkeypatch.setattr("convbench.images._to_luminance", Mock(side_effect=error))
        with pytest.raises(RequestError, match=r"p\.png") as refused:
            load_image(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("form", ["png", "tiff", "gif", "bmp"])
def test_damaged_pictures_are_read_or_refused_in_silence(tmp_path, form):
    """Warnings are errors in tests."""
    whole = saved(tmp_path, PillowImage.fromarray(GRAY), f"p.{form}").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, min(200, len(content)), 4)] = random.integers(0, 256, 4)
        (tmp_path / f"p.{form}").write_bytes(content.tobytes())
        try:
            assert load_image(tmp_path / f"p.{form}").pixels.ndim == 2
        except RequestError as error:
            assert "\n" not in str(error)  # noqa: PT017  # either is right

"""The filters of the experiment."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from convbench.errors import RequestError
from convbench.filters import filter_bank, gabor_bank, load_bank


def test_the_gabor_bank_has_128_different_filters_of_zero_mean_and_unit_norm():
    bank = gabor_bank()
    assert bank.shape == (128, 11, 11)
    np.testing.assert_allclose(bank.sum(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((bank**2).sum(axis=(1, 2)), 1)
    likeness = np.abs(np.einsum("aij,bij->ab", bank, bank)) - np.eye(128)
    assert likeness.max() < 0.999


def test_random_kernels_follow_from_the_seed():
    assert filter_bank("random", 1).shape == (128, 11, 11)
    np.testing.assert_array_equal(filter_bank("random", 1), filter_bank("random", 1))
    assert (filter_bank("random", 1) != filter_bank("random", 2)).all()


def test_a_bank_from_a_file_comes_as_it_is(tmp_path):
    np.save(tmp_path / "bank.npy", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    bank = filter_bank(str(tmp_path / "bank.npy"))
    assert bank.dtype == np.float64
    np.testing.assert_array_equal(bank.ravel(), np.arange(24))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3)), "three axes"),
        (np.zeros((0, 3, 3)), "empty"),
        (np.full((1, 2, 2), np.nan), "NaN"),
        (np.full((1, 2, 2), np.inf), "NaN or infinity"),
        (np.full((1, 2, 2), 1e39), "beyond 3.4e+38"),
        (np.full((1, 2, 2), np.longdouble("1e4000")), "beyond 3.4e+38"),
        (np.zeros((1, 2, 2), complex), "complex128"),
        (np.array([[["a"]]]), "<U1"),
        (np.array([{}], dtype=object), "Object arrays cannot be loaded"),  # a pickle, which is never opened
    ],
)
def test_a_file_that_is_no_bank_is_one_clear_error(tmp_path, array, words):
    np.save(tmp_path / "bank.npy", array, allow_pickle=True)
    with pytest.raises(RequestError) as error:
        load_bank(tmp_path / "bank.npy")
    assert words in str(error.value)
    assert "bank.npy" in str(error.value)


def test_a_file_that_is_no_array_file_is_one_clear_error(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "several.npz", a=np.zeros((1, 2, 2)))
    for name in ("text.npy", "several.npz", "missing.npy"):
        with pytest.raises(RequestError, match=name):
            load_bank(tmp_path / name)


def written(path: Path, header: str) -> Path:
    """An .npy file with some header and no numbers."""
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3, 3)}",  # and none of them is there
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000, 2000000000, 200)}",  # no machine has those
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3, 3",
        "{'descr': 'f', 'shape': 7}",
        "((((",
        "",
    ],
)
def test_a_damaged_header_is_one_clear_error(tmp_path, header):
    with pytest.raises(RequestError, match=r"bank\.npy") as error:
        load_bank(written(tmp_path / "bank.npy", header))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [None, "", 1, b"bank.npy", "nul\0"])
def test_what_is_no_path_is_one_clear_error(path):
    with pytest.raises(RequestError, match=r"^kernels=.+ is not allowed"):
        load_bank(path)

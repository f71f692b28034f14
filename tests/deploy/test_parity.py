"""The gate of an export."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data import table
from ffdi.deploy import parity
from ffdi.errors import ParityError


def reference(images: np.ndarray) -> np.ndarray:
    """float32 [B] from uint8 [B, S, S, 3]."""
    return (images.mean((1, 2, 3)) / 255).astype(np.float32)


@pytest.fixture
def real(tmp_path: Path) -> np.ndarray:
    """40 images of 8 px from a folder that holds nine."""
    rng = np.random.default_rng(0)
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 256, (8, 8, 3), np.uint8))
    return parity.real_images(table.in_folder(tmp_path), 8)


def test_real_images_fill_every_batch_even_from_a_small_folder(real: np.ndarray) -> None:
    assert (real.shape, real.dtype) == ((40, 8, 8, 3), np.uint8)
    assert len(np.unique(real.reshape(40, -1), axis=0)) == 9


def test_an_equal_graph_passes(real: np.ndarray) -> None:
    differences = parity.measure(reference, lambda batch: reference(batch) + np.float32(5e-5), real)
    assert list(differences) == [1, 7, 32]
    assert all(value == pytest.approx(5e-5, rel=1e-2) for value in differences.values())
    parity.check(differences)


def test_a_graph_that_differs_at_one_batch_size_is_refused(real: np.ndarray) -> None:
    def fixed_batch(batch: np.ndarray) -> np.ndarray:
        return reference(batch) + np.float32(0.25 if len(batch) == 7 else 0)

    with pytest.raises(ParityError) as caught:
        parity.check(parity.measure(reference, fixed_batch, real))
    assert str(caught.value) == (
        "the exported graph differs from the network by more than 0.0001; it was not written\n"
        "  batch 1: largest difference 0\n"
        "  batch 7: largest difference 0.25\n"
        "  batch 32: largest difference 0\n"
        "next: report this with the config.toml and the versions of torch, onnxscript and onnxruntime"
    )


def test_a_graph_that_gives_no_number_is_refused() -> None:
    with pytest.raises(ParityError):
        parity.check({1: 0.0, 7: float("nan"), 32: 0.0})

"""The gate of an export: equal scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ffdi.core.errors import ParityError
from ffdi.export import equivalence
from ffdi.inference.backend import OpenGraph

REAL = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)


def reference(images: np.ndarray) -> np.ndarray:
    """float32 [B] from uint8 [B, S, S, 3]."""
    return (images.mean((1, 2, 3)) / 255).astype(np.float32)


def graph(run: Callable[[np.ndarray], np.ndarray]) -> OpenGraph:
    """A graph of batch 4."""
    return OpenGraph("cpu", "fake", "", 4, 1, run)


def test_an_equal_graph_passes() -> None:
    batches = []

    def near(batch: np.ndarray) -> np.ndarray:
        batches.append(len(batch))
        return reference(batch) + np.float32(5e-6)

    differences = equivalence.measure_parity(graph(near), REAL, reference(REAL))
    assert batches == [1, 7, 32, 6]
    assert list(differences) == ["1", "7", "32", "last, partial"]
    assert all(value == pytest.approx(5e-6, rel=2e-2) for value in differences.values())
    equivalence.check_parity("cpu", differences)


def test_a_graph_that_differs_at_one_batch_size_is_refused() -> None:
    def fixed_batch(batch: np.ndarray) -> np.ndarray:
        return reference(batch) + np.float32(0.25 if len(batch) == 7 else 0)

    with pytest.raises(ParityError) as caught:
        equivalence.check_parity("openvino", equivalence.measure_parity(graph(fixed_batch), REAL, reference(REAL)))
    assert str(caught.value) == (
        "the exported graph on openvino differs from the networks by more than 1e-05\n"
        "  batch 1: largest difference 0\n"
        "  batch 7: largest difference 0.25\n"
        "  batch 32: largest difference 0\n"
        "  batch last, partial: largest difference 0\n"
        "next: report this with the config.toml and the versions of torch, onnxscript and onnxruntime"
    )


def test_a_graph_that_mixes_up_images_is_refused() -> None:
    with pytest.raises(ParityError):
        equivalence.check_parity(
            "cpu", equivalence.measure_parity(graph(lambda batch: reference(batch)[::-1]), REAL, reference(REAL))
        )


def test_a_graph_that_gives_nan_is_refused() -> None:
    with pytest.raises(ParityError):
        equivalence.check_parity("cpu", {"1": 0.0, "7": float("nan"), "32": 0.0})

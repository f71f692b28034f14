"""Scoring in parts where the memory of a device is short; the device is faked."""

from __future__ import annotations

import pytest
import torch

from ffdi.training.predict import PartwiseRunner
from ffdi.training.runtime import device as devices


class ShortMemory:
    """Doubles numbers, at most `most` of them at once."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most, self.sizes = most, list[int]()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(numbers))
        if len(numbers) > self.most:
            raise self.error
        return 2 * numbers


CPU = devices.choose_device("cpu", "fp32", 0)


@pytest.mark.parametrize(
    "error", [None, MemoryError(), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")], ids=["gpu", "cpu", "cudnn"]
)
def test_parts_are_halved_until_they_fit_and_stay_that_small(error: Exception | None) -> None:
    short = ShortMemory(3, error)
    run = PartwiseRunner(short, CPU)
    numbers = torch.arange(10)
    assert torch.equal(run(numbers), 2 * numbers)
    assert short.sizes == [10, 5, 2, 2, 2, 2, 2]
    short.sizes.clear()
    assert torch.equal(run(numbers[:5]), 2 * numbers[:5])
    assert short.sizes == [2, 2, 1]


def test_a_batch_that_fits_is_run_at_once() -> None:
    run = PartwiseRunner(short := ShortMemory(10), CPU)
    assert torch.equal(run(torch.arange(10)), 2 * torch.arange(10))
    assert short.sizes == [10]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        PartwiseRunner(short := ShortMemory(0), CPU)(torch.arange(4))
    assert short.sizes == [4, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    short = ShortMemory(0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        PartwiseRunner(short, CPU)(torch.arange(4))
    assert short.sizes == [4]

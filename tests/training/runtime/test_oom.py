"""What torch says, in words that a person can act on."""

from __future__ import annotations

import pytest
import torch

from ffdi.config.schema import Config
from ffdi.core.errors import TrainingError
from ffdi.training.runtime import device
from ffdi.training.runtime.oom import explain_oom

CPU = device.choose("cpu", "fp32", 0)
NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


def config(batch_size: int, accumulate: int = 1) -> Config:
    """With that many images at once, in so many parts."""
    return Config.model_validate({"train": {"batch_size": batch_size, "micro_batches": accumulate}})


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_too_little_memory_says_which_batch_size_to_try(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, explain_oom(config(64), CPU):
        raise error
    assert str(caught.value) == (
        "cpu has not the memory for resnet18 at 256 px in batches of 64\n"
        "next: set train.micro_batches = 2, or train.batch_size = 32, in config.toml"
    )
    with pytest.raises(TrainingError) as caught, explain_oom(config(64, 4), CPU):
        raise error
    assert str(caught.value) == (
        "cpu has not the memory for resnet18 at 256 px in batches of 64 in 4 parts\n"
        "next: set train.micro_batches = 8, or train.batch_size = 32, in config.toml"
    )
    with pytest.raises(TrainingError) as caught, explain_oom(config(1), CPU):
        raise error
    assert str(caught.value).splitlines()[1] == (
        "next: set a smaller model.size or another model.backbone in config.toml"
    )


def test_a_real_allocation_that_is_too_large_is_such_an_error() -> None:
    with pytest.raises(TrainingError), explain_oom(config(2), CPU):
        torch.empty(2**50)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explain_oom(config(2), CPU):
        raise RuntimeError("shapes differ")

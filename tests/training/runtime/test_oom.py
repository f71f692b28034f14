"""What torch says, in words that a person can act on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffdi.config.schema import Config
from ffdi.core.errors import TrainingError
from ffdi.training.runtime import device
from ffdi.training.runtime.device import explain_oom

CPU = device.choose_device("cpu", "fp32", 0)
NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


def config(batch_size: int, micro_batches: int = 1) -> Config:
    """With that many images at once, in so many parts."""
    return Config.model_validate({"train": {"batch_size": batch_size, "micro_batches": micro_batches}})


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_an_oom_error_suggests_a_batch_size(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, explain_oom(config(64), CPU):
        raise error
    assert str(caught.value) == (
        "cpu has not enough memory for resnet18 at 256 px with batches of 64\n"
        "next: set train.micro_batches = 2, or train.batch_size = 32, in config.toml"
    )
    with pytest.raises(TrainingError) as caught, explain_oom(config(64, 4), CPU):
        raise error
    assert str(caught.value) == (
        "cpu has not enough memory for resnet18 at 256 px with batches of 64 in 4 micro-batches\n"
        "next: set train.micro_batches = 8, or train.batch_size = 32, in config.toml"
    )
    with pytest.raises(TrainingError) as caught, explain_oom(config(1), CPU):
        raise error
    assert str(caught.value).splitlines()[1] == (
        "next: set a smaller model.size or another model.backbone in config.toml"
    )


def test_memory_of_the_host_is_not_memory_of_the_gpu() -> None:
    gpu = replace(CPU, name="cuda:0")
    with pytest.raises(TrainingError, match=r"^cuda:0 has not enough memory"), explain_oom(config(2), gpu):
        raise RuntimeError("CUDA error: out of memory")
    with pytest.raises(RuntimeError, match="can't start new thread"), explain_oom(config(2), gpu):
        raise RuntimeError("can't start new thread")


def test_a_failed_allocation_is_an_oom_error() -> None:
    with pytest.raises(TrainingError), explain_oom(config(2), CPU):
        torch.empty(2**50)


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explain_oom(config(2), CPU):
        raise RuntimeError("shapes differ")

"""What torch says, in words that a person can act on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffdi.config.schema import Config
from ffdi.core.errors import DeviceError, TrainingError
from ffdi.training.predict import PartwiseRunner
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


GPU = replace(CPU, name="cuda:0")


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        ("CUDA error: out of memory", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("Unable to find a valid cuDNN algorithm to run convolution", True),
    ],
)
def test_libraries_of_a_gpu_that_find_no_memory(message: str, quoted: bool) -> None:
    """Without memory, cuBLAS and cuDNN do not always say so: then their words are shown."""
    problem = f"  torch: {message}\n" if quoted else ""
    with pytest.raises(TrainingError) as caught, explain_oom(config(4), GPU):
        raise RuntimeError(message)
    assert str(caught.value) == (
        f"cuda:0 has not enough memory for resnet18 at 256 px with batches of 4\n{problem}"
        "next: set train.micro_batches = 2, or train.batch_size = 2, in config.toml"
    )
    with pytest.raises(DeviceError) as other, GPU.explain_memory("for the network"):
        raise RuntimeError(message)
    assert str(other.value) == (
        f"cuda:0 has not enough memory for the network\n{problem}"
        "next: end other programs that use this GPU, or pass --device cpu"
    )


def test_a_network_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def move(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network = torch.nn.Linear(1, 1)
    monkeypatch.setattr(network, "to", move)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    with (
        pytest.raises(DeviceError, match=r"^cuda:0 has not enough memory for the network\n"),
        explain_oom(config(4), GPU),
    ):
        replace(GPU, threads=torch.get_num_threads()).prepare(network)


def test_an_image_that_cannot_be_scored_is_an_error_of_the_device() -> None:
    def score(_images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    gpu = replace(CPU, name="mps")
    with pytest.raises(DeviceError, match=r"^mps has not enough memory to score one image\n"):
        PartwiseRunner(score, gpu)(torch.zeros(1))

"""Chooses, once, where and how the network runs, and says why. Nothing else in training names CUDA."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.profiler import ProfilerActivity

from ffdi.core import machine
from ffdi.core.errors import ConfigError, DeviceError
from ffdi.data.loading.loader import LoaderConfig

Network = TypeVar("Network", bound=nn.Module)
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MOST_WORKERS = 8
FIRST = "cuda:0"
"""The one that a process has which was given a single one."""


@dataclass(frozen=True)
class Device:
    """Where the network runs.

    Attributes:
        name: 'cpu' or 'cuda:N'.
        precision: what training multiplies in: 'fp32', 'bf16' or 'fp16'. Scores are always fp32.
        threads: CPU threads of torch.
        workers: loader processes.
        why: one line for the person who started it.
    """

    name: str
    precision: str
    threads: int
    workers: int
    why: str

    @property
    def torch(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.name)

    @property
    def pin_memory(self) -> bool:
        """Whether batches wait in pinned memory, from which a device copies without stopping."""
        return self.name.startswith("cuda")

    @property
    def supply(self) -> LoaderConfig:
        """Who makes its batches."""
        return LoaderConfig(self.workers, self.threads, self.pin_memory)

    @property
    def machine(self) -> str:
        """What a training's last bits depend on."""
        threads = f", {self.threads} threads" if self.name == "cpu" else ""
        return f"{self.name.split(':')[0]} in {self.precision}{threads}"

    @property
    def backend(self) -> str:
        """By which torch.distributed reaches other processes: what lies on the CPU, and what lies on the device."""
        return "gloo" if self.name == "cpu" else "cpu:gloo,cuda:nccl"

    @property
    def ids(self) -> list[int] | None:
        """The device's number, as torch.distributed wants it; a CPU has none."""
        return None if self.name == "cpu" else [int(self.torch.index)]

    def select(self) -> None:
        """Makes it the one that is meant where none is named."""
        if self.name != "cpu":
            torch.cuda.set_device(self.torch)

    @property
    def activities(self) -> list[ProfilerActivity]:
        """What a profiler looks at."""
        return [ProfilerActivity.CPU, *([] if self.name == "cpu" else [ProfilerActivity.CUDA])]

    def wait(self) -> None:
        """Until all that was asked of the device is done; a CPU is asked for nothing in advance."""
        if self.name != "cpu":
            torch.cuda.synchronize(self.torch)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for a training step; does nothing in fp32."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.torch.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def scaler(self) -> GradScaler:
        """Loss scaling, which fp16 alone needs."""
        return GradScaler(self.torch.type, enabled=self.precision == "fp16")

    def prepare(self, network: Network) -> Network:
        """Moves a network here, in the layout that convolutions are fast in, and gives torch its threads."""
        torch.set_num_threads(self.threads)
        if self.name == "cpu":
            machine.keep_freed_memory()
        return network.to(self.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]  # takes both

    def send(self, tensor: Tensor) -> Tensor:
        """Moves a tensor here; from pinned memory without waiting for it."""
        return tensor.to(self.torch, non_blocking=self.pin_memory)


def choose(asked: str, precision: str | None, workers: int | None, *, depthwise: bool = False) -> Device:
    """The device that was asked for, with everything that follows from it.

    Args:
        asked: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        precision: 'auto' takes bf16 or fp16 where the device multiplies in them, else fp32; None is for scoring
            only, which is always fp32.
        workers: loader processes; None chooses.
        depthwise: whether the network filters each channel alone, which CPUs do no faster in bf16 than in fp32.

    Raises:
        DeviceError: a CUDA device was asked for and is not there.
        ConfigError: the device has no such name, or cannot train in that precision.
    """
    name, why = _name(asked)
    threads = machine.cores()
    if name == "cpu":
        best, reason = _cpu_precision(depthwise)
        default_workers = 0  # the network keeps every core busy; a process beside it only takes turns
    else:
        index = torch.device(name).index
        best, reason = _cuda_precision(index)
        default_workers = max(1, min(MOST_WORKERS, threads - 1))
    if precision == "fp16" and name == "cpu":
        raise ConfigError(
            "train.precision = 'fp16' needs a CUDA device", hint="set train.precision to 'auto', 'bf16' or 'fp32'"
        )
    chosen, said = {"auto": (best, reason), None: ("fp32", "as for every score")}.get(
        precision, (str(precision), "as config.toml has it")
    )
    workers = default_workers if workers is None else workers
    line = f"{why}; {chosen}: {said}; {threads} threads, {workers} loader workers"
    return Device(name, chosen, threads, workers, line)


def share(device: Device, asked: str, folds: int | None, jobs: int | None, ranks: int = 1) -> list[list[Device]]:
    """The devices of each of the folds that are trained at once, with what each may use of this machine.

    Args:
        device: what `choose` gave.
        asked: as there; 'auto' and 'cuda' take every CUDA device.
        folds: of the experiment, whether they are trained already or not: threads decide the last bits of weights. None
            is any number of trainings, of which a CPU has one at a time.
        jobs: folds at once; None takes as many as there are CUDA devices for; on a CPU the most that leave none of the
            rounds half empty, since two threads train one fold nearly as fast as they train two.
        ranks: devices of each fold; on a CPU processes.

    Raises:
        DeviceError: there are fewer.
    """
    if device.name == "cpu":
        most = max(1, min(folds or 1, device.threads // ranks))
        count = jobs or max(number for number in range(1, most + 1) if (folds or 1) % number == 0)
        names = ["cpu"] * (count * ranks)
    else:
        every = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        names = every if asked in ("auto", "cuda") else [device.name]
        if len(names) < ranks:
            raise DeviceError(
                f"--gpus-per-fold {ranks}: each wants a CUDA device of its own, and {_are(len(names))} to be had",
                hint=f"pass --gpus-per-fold {len(names)}" + ("" if names == every else ", or --device auto"),
            )
        count = min(jobs or len(names) // ranks, folds or sys.maxsize)
        names = [names[number % len(names)] for number in range(count * ranks)]
    threads, workers = max(1, device.threads // len(names)), device.workers
    if len(names) > 1 and workers:
        workers = max(1, min(workers, threads - 1))
    shares = [replace(device, name=name, threads=threads, workers=workers) for name in names]
    return [shares[first : first + ranks] for first in range(0, len(shares), ranks)]


def several(device: Device, count: int) -> list[Device]:
    """So many devices like the first one of a process, which has as many."""
    return [device if device.name == "cpu" else replace(device, name=f"cuda:{number}") for number in range(count)]


def _are(count: int) -> str:
    return "there is 1" if count == 1 else f"there are {count}"


@contextmanager
def exact() -> Iterator[None]:
    """fp32 arithmetic without shortcuts, so that scores equal those of the exported graph.

    TF32 keeps 10 bits of a product's mantissa: enough to train, not to compare to 1e-4.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _name(asked: str) -> tuple[str, str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        if count:
            return "cuda:0", f"cuda:0 ({torch.cuda.get_device_name(0)}), the first of {count}"
        return "cpu", "the CPU: there is no CUDA device"
    if asked == "cpu":
        return "cpu", "the CPU, as asked"
    kind, _, index = asked.partition(":")
    if kind != "cuda" or not (index.isdecimal() or asked == "cuda"):
        raise ConfigError(f"unknown device '{asked}': known: auto, cpu, cuda, cuda:N", hint="pass --device auto")
    number = int(index or 0)
    if number >= count:
        there = f"there are {count}" if count else "there is none"
        raise DeviceError(f"no CUDA device {number}: {there}", hint="pass --device auto or --device cpu")
    return f"cuda:{number}", f"cuda:{number} ({torch.cuda.get_device_name(number)}), as asked"


def _cpu_precision(depthwise: bool) -> tuple[str, str]:
    if not _cpu_has_bf16():
        return "fp32", "the CPU has no bf16"
    if depthwise:
        return "fp32", "depthwise convolutions are no faster in bf16 on a CPU"
    return "bf16", "the CPU multiplies in bf16"


def _cuda_precision(index: int) -> tuple[str, str]:
    major, minor = torch.cuda.get_device_capability(index)
    if major >= 8:
        return "bf16", f"compute capability {major}.{minor} multiplies in bf16"
    if major >= 7:
        return "fp16", f"compute capability {major}.{minor} multiplies in fp16"
    return "fp32", f"compute capability {major}.{minor} has no tensor cores"


def _cpu_has_bf16() -> bool:
    """Whether the CPU itself multiplies in bf16; oneDNN would also imitate it, slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)

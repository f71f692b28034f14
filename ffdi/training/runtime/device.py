"""The device of a network: its precision, threads and loader workers. No other module of training names CUDA."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.profiler import ProfilerActivity

from ffdi.config.schema import Config
from ffdi.core import cuda, machine
from ffdi.core.errors import ConfigError, DeviceError, TrainingError, get_first_line
from ffdi.data.loading.loader import LoaderConfig

Network = TypeVar("Network", bound=nn.Module)
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_WORKERS, MAX_WORKERS = 2, 8
"""Loader processes of a GPU: with one, it waits while the next batch is decoded."""
KERNELS = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<only>[af]?)")
"""An architecture that torch has kernels for, such as sm_90."""
GPU_ERROR = re.compile("CUDA|CUBLAS|CUDNN")
OTHER_DEVICE = "pass --device auto or --device cpu"
FIRST_GPU = "cuda:0"
"""The only GPU of a process that may use one."""


@dataclass(frozen=True)
class Device:
    """A device, and how a network uses it.

    Attributes:
        name: 'cpu' or 'cuda:N'.
        precision: of training: 'fp32', 'bf16' or 'fp16'. Scores are always computed in fp32.
        threads: CPU threads of torch.
        workers: loader processes.
        why: a line that explains the choice to the user.
    """

    name: str
    precision: str
    threads: int
    workers: int
    why: str

    @property
    def torch(self) -> torch.device:
        return torch.device(self.name)

    @property
    def pin_memory(self) -> bool:
        """Whether batches are in pinned memory, from which a GPU copies asynchronously."""
        return self.name.startswith("cuda")

    @property
    def loader_config(self) -> LoaderConfig:
        return LoaderConfig(self.workers, self.threads, self.pin_memory)

    @property
    def machine(self) -> str:
        """The properties that the last bits of the weights depend on."""
        threads = f", {self.threads} threads" if self.name == "cpu" else ""
        return f"{self.name.split(':')[0]} in {self.precision}{threads}"

    @property
    def backend(self) -> str:
        """The backends of torch.distributed, for tensors on the CPU and on the device."""
        return "gloo" if self.name == "cpu" else "cpu:gloo,cuda:nccl"

    @property
    def ids(self) -> list[int] | None:
        """The argument `device_ids` of DistributedDataParallel."""
        return None if self.name == "cpu" else [int(self.torch.index)]

    def select(self) -> None:
        """Makes it the current CUDA device."""
        if self.name != "cpu":
            torch.cuda.set_device(self.torch)

    @property
    def activities(self) -> list[ProfilerActivity]:
        return [ProfilerActivity.CPU, *([] if self.name == "cpu" else [ProfilerActivity.CUDA])]

    def synchronize(self) -> None:
        """Waits for the kernels of a GPU."""
        if self.name != "cpu":
            torch.cuda.synchronize(self.torch)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for a training step; no effect in fp32."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.torch.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def make_scaler(self) -> GradScaler:
        """A loss scaler, enabled in fp16 only."""
        return GradScaler(self.torch.type, enabled=self.precision == "fp16")

    def prepare(self, network: Network) -> Network:
        """Moves a network to the device in channels_last layout, and sets torch's threads."""
        torch.set_num_threads(self.threads)
        if self.name == "cpu":
            machine.keep_freed_memory()
        return network.to(self.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]  # takes both

    def free_cache(self) -> None:
        """Gives back memory of a GPU that torch keeps for later tensors."""
        if self.name != "cpu":
            torch.cuda.empty_cache()

    def send(self, tensor: Tensor) -> Tensor:
        """Copies a tensor to the device, asynchronously from pinned memory."""
        return tensor.to(self.torch, non_blocking=self.pin_memory)


def choose_device(requested: str, precision: str | None, workers: int | None, *, depthwise: bool = False) -> Device:
    """Chooses the device, its precision, threads and loader workers.

    Args:
        requested: 'auto', 'cpu', 'cuda' or 'cuda:N'; 'auto' and 'cuda' leave out GPUs that torch has no kernels for.
        precision: 'auto' chooses bf16 or fp16 if the device computes in it, else fp32; None is for scoring, in fp32.
        workers: loader processes; None chooses.
        depthwise: whether the network has depthwise convolutions, which are not faster in bf16 on a CPU.

    Raises:
        DeviceError: there is no such CUDA device, or there are GPUs that torch cannot use and 'auto' was requested.
        ConfigError: the name is unknown, or the device cannot train in that precision.
    """
    name, why = _resolve_name(requested)
    threads = machine.count_cores()
    if name == "cpu":
        best, reason = _choose_cpu_precision(depthwise)
        default_workers = 0  # the network uses all cores; a worker process would only compete for them
    else:
        used = [torch.device(name).index] if ":" in requested else _list_usable_gpus()
        best, reason = _choose_cuda_precision(min(torch.cuda.get_device_capability(number) for number in used))
        default_workers = max(MIN_WORKERS, min(MAX_WORKERS, threads - 1))
    if precision == "fp16" and name == "cpu":
        raise ConfigError(
            "train.precision = 'fp16' needs a CUDA device", hint="set train.precision to 'auto', 'bf16' or 'fp32'"
        )
    chosen, reason = {"auto": (best, reason), None: ("fp32", "scores are always fp32")}.get(
        precision, (str(precision), "set in config.toml")
    )
    workers = default_workers if workers is None else workers
    line = f"{why}; {chosen}: {reason}; {threads} threads, {workers} loader workers"
    return Device(name, chosen, threads, workers, line)


def assign_devices(
    device: Device, requested: str, folds: int | None, jobs: int | None, ranks: int = 1
) -> list[list[Device]]:
    """Distributes this machine over the folds that are trained at the same time.

    Args:
        device: of `choose_device`.
        requested: as in `choose_device`; 'auto' and 'cuda' use every CUDA device.
        folds: of the experiment, including the finished ones, because the last bits of weights depend on the number of
            threads. None is any number of trainings; a CPU then trains one at a time.
        jobs: folds at once. None: one per GPU, or on a CPU the largest number that divides `folds`, so that no round
            leaves threads idle; two threads train one fold nearly as fast as two folds.
        ranks: devices of each fold; on a CPU processes.

    Returns:
        One group of devices for each fold at a time.

    Raises:
        DeviceError: there are too few devices.
    """
    if device.name == "cpu":
        most = max(1, min(folds or 1, device.threads // ranks))
        count = jobs or max(number for number in range(1, most + 1) if (folds or 1) % number == 0)
        names = ["cpu"] * (count * ranks)
    else:
        every = [f"cuda:{number}" for number in _list_usable_gpus()]
        names = every if requested in ("auto", "cuda") else [device.name]
        if len(names) < ranks:
            raise DeviceError(
                f"--gpus-per-fold {ranks}: there {_count_gpus(len(names))}",
                hint=f"pass --gpus-per-fold {len(names)}" + ("" if names == every else ", or --device auto"),
            )
        count = min(jobs or len(names) // ranks, folds or sys.maxsize)
        names = [names[number % len(names)] for number in range(count * ranks)]
    threads, workers = max(1, device.threads // len(names)), device.workers
    if len(names) > 1 and workers:
        workers = min(workers, max(MIN_WORKERS, threads - 1))
    shares = [replace(device, name=name, threads=threads, workers=workers) for name in names]
    return [shares[first : first + ranks] for first in range(0, len(shares), ranks)]


def list_devices(device: Device, count: int) -> list[Device]:
    """One device for each rank: a CPU `count` times, or the first `count` GPUs."""
    return [device if device.name == "cpu" else replace(device, name=f"cuda:{number}") for number in range(count)]


def _count_gpus(count: int) -> str:
    return "is 1 CUDA device" if count == 1 else f"are {count} CUDA devices"


@contextmanager
def disable_tf32() -> Iterator[None]:
    """Computes in full fp32 inside, so that scores equal those of the exported graph.

    TF32 rounds factors to a mantissa of 10 bits: enough to train, not enough to compare scores to 1e-4.
    """
    backends: Any = torch.backends
    matmul, cudnn = backends.cuda.matmul, backends.cudnn
    switches: list[tuple[Any, str]] = [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]
    off: bool | str = False
    try:
        before = [getattr(*switch) for switch in switches]
    except RuntimeError:  # someone has used torch's newer switches, after which the older ones cannot be read
        switches, off = [(kind, "fp32_precision") for kind in (matmul, cudnn.conv, cudnn.rnn)], "ieee"
        before = [getattr(*switch) for switch in switches]
    try:
        for switch in switches:
            setattr(*switch, off)
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(*switch, value)


def _resolve_name(requested: str) -> tuple[str, str]:
    if requested == "cpu":
        return "cpu", "the CPU, as requested"
    kind, _, index = requested.partition(":")
    if requested != "auto" and (kind != "cuda" or not (index.isdecimal() or requested == "cuda")):
        raise ConfigError(f"unknown device '{requested}': known: auto, cpu, cuda, cuda:N", hint="pass --device auto")
    if not torch.cuda.is_available():
        driver = cuda.query_driver()
        if driver is not None:
            raise _explain_unusable(driver)
        if requested == "auto":
            return "cpu", "the CPU: there is no CUDA device"
        raise DeviceError(f"no CUDA device {index or 0}: there is none", hint=OTHER_DEVICE)
    count, usable = torch.cuda.device_count(), _list_usable_gpus()
    number = int(index) if index else next(iter(usable), 0)
    if number >= count:
        raise DeviceError(f"no CUDA device {number}: there are {count}", hint=OTHER_DEVICE)
    if number not in usable:
        raise DeviceError(
            f"torch {torch.__version__} has no kernels for {_describe_gpu(number)}; it has those for "
            f"{', '.join(torch.cuda.get_arch_list())}",
            hint=f"install a torch with kernels for it, or {OTHER_DEVICE if usable else 'pass --device cpu'}",
        )
    name = f"cuda:{number} ({torch.cuda.get_device_name(number)})"
    if requested != "auto":
        return f"cuda:{number}", f"{name}, as requested"
    left_out = [_describe_gpu(other) for other in range(count) if other not in usable]
    without = f", without {', '.join(left_out)}: torch has no kernels for it" if left_out else ""
    return f"cuda:{number}", f"{name}, the first of {len(usable)}{without}"


def _describe_gpu(number: int) -> str:
    capability = cuda.format_version(torch.cuda.get_device_capability(number))
    return f"cuda:{number} ({torch.cuda.get_device_name(number)}, compute capability {capability})"


def _list_usable_gpus() -> list[int]:
    """The GPUs that torch has kernels for: of the same major version and at most the same minor one, or as PTX.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility
    """
    known = [KERNELS.fullmatch(name) for name in torch.cuda.get_arch_list()]
    kernels = [(found["kind"], (int(found["major"]), int(found["minor"])), found["only"]) for found in known if found]
    return [
        number
        for number in range(torch.cuda.device_count())
        if not kernels or any(_runs_on(torch.cuda.get_device_capability(number), *one) for one in kernels)
    ]


def _runs_on(gpu: cuda.Version, kind: str, kernels: cuda.Version, only: str) -> bool:
    if only == "a":  # such as sm_90a; those with f run on the family
        return gpu == kernels
    return kernels <= gpu if kind == "compute" else kernels[0] == gpu[0] and kernels[1] <= gpu[1]


def _explain_unusable(driver: cuda.Driver) -> DeviceError:
    """GPUs that torch does not see: the network would be trained on the CPU without a word."""
    built = torch.version.cuda
    if driver.fault:
        return DeviceError(
            f"the CUDA driver does not work: {driver.fault}",
            hint="restart the machine or install the driver again, or pass --device cpu",
        )
    newest = cuda.format_version(driver.cuda)
    if built is None:
        why, install = "it is built without CUDA", f"install a torch for CUDA {newest} or older"
    elif int(built.partition(".")[0]) > driver.cuda[0]:
        why = f"it needs a driver for CUDA {built}, and this one is for CUDA {newest}"
        install = f"install a newer driver, or a torch for CUDA {driver.cuda[0]}"
    else:
        why, install = _find_cuda_fault(), "correct that"
    return DeviceError(
        f"this machine has {driver.describe_gpus()} that torch {torch.__version__} cannot use: {why}",
        hint=f"{install}, or pass --device cpu",
    )


def _find_cuda_fault() -> str:
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return get_first_line(error)
    return "it gives no reason"


def _choose_cpu_precision(depthwise: bool) -> tuple[str, str]:
    if not _has_cpu_bf16():
        return "fp32", "the CPU has no bf16"
    if depthwise:
        return "fp32", "depthwise convolutions are not faster in bf16 on a CPU"
    return "bf16", "the CPU multiplies in bf16"


def _choose_cuda_precision(capability: cuda.Version) -> tuple[str, str]:
    """The precision for the oldest GPU in use."""
    named = f"compute capability {cuda.format_version(capability)}"
    if capability >= (8, 0):
        return "bf16", f"{named} multiplies in bf16"
    if capability >= (7, 0):
        return "fp16", f"{named} multiplies in fp16"
    return "fp32", f"{named} has no tensor cores"


def _has_cpu_bf16() -> bool:
    """Whether the CPU has bf16 instructions; without them oneDNN emulates bf16, slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


@contextmanager
def explain_oom(config: Config, device: Device) -> Iterator[None]:
    """Turns an out-of-memory error of the device into a TrainingError with the batch size to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        of_gpu = isinstance(error, torch.OutOfMemoryError) or GPU_ERROR.search(str(error)) is not None
        if not machine.is_memory_error(error) or (device.name.startswith("cuda") and not of_gpu):
            raise  # smaller batches do not help when the host is short of memory
        raise _describe_oom(config, device) from None


def _describe_oom(config: Config, device: Device) -> TrainingError:
    size, parts = config.train.batch_size, config.train.micro_batches
    in_parts = f" in {parts} micro-batches" if parts > 1 else ""
    return TrainingError(
        f"{device.name} has not enough memory for {config.model.backbone} at {config.model.size} px with batches of "
        f"{size}{in_parts}",
        hint=f"set train.micro_batches = {2 * parts}, or train.batch_size = {size // 2}, in config.toml"
        if size > parts
        else "set a smaller model.size or another model.backbone in config.toml",
    )


def describe_library() -> str:
    """Returns the version of torch and its CUDA."""
    return f"{torch.__version__}, {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'for CPUs'}"

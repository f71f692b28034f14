"""The device of a network: its precision, threads and loader workers. No other module of training names CUDA."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity

from ffdi.config.schema import Config
from ffdi.core import cuda, machine
from ffdi.core.errors import ConfigError, DeviceError, TrainingError, format_are, format_count, get_first_line
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batch, LoaderConfig

Network = TypeVar("Network", bound=nn.Module)
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_WORKERS, MAX_WORKERS = 2, 16
"""Loader processes of a GPU: with one, it waits while the next batch is decoded."""
GPU_ERROR = re.compile("CUDA|CUBLAS|CUDNN", re.IGNORECASE)
NO_START = re.compile(r"CU(BLAS|DNN)_STATUS_NOT_INITIALIZED|unable to find (an engine to execute|a valid cuDNN)", re.I)
"""Errors of cuBLAS and cuDNN that mean, most of the time, that no memory was left for them."""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""Makes cuBLAS deterministic. Source: https://docs.nvidia.com/cuda/cublas/#results-reproducibility"""
NONDETERMINISTIC = re.compile(
    r"(.+?)(?: does not have a deterministic implementation| defaults to a non-deterministic)"
)
"""torch's errors and warnings about an operation without a deterministic kernel."""
OTHER_DEVICE = "pass --device auto or --device cpu"
FIRST_GPU = "cuda:0"
"""The only GPU of a process that may use one."""
Moment = float | torch.cuda.Event
"""A point in the work of a device, see `Device.mark_time`."""


@dataclass(frozen=True)
class Device:
    """A device, and how a network uses it.

    Attributes:
        name: 'cpu', 'cuda:N' or 'mps'.
        precision: of training: 'fp32', 'bf16' or 'fp16'. Scores are always computed in fp32.
        threads: CPU threads of torch.
        workers: loader processes.
        why: a line that explains the choice to the user.
        batch_bytes: the size of a batch of images.
    """

    name: str
    precision: str
    threads: int
    workers: int
    why: str
    batch_bytes: int = 0

    @property
    def torch(self) -> torch.device:
        return torch.device(self.name)

    @property
    def kind(self) -> str:
        """'cpu', 'cuda' or 'mps'."""
        return self.torch.type

    @property
    def pin_memory(self) -> bool:
        """Whether batches are in pinned memory, from which a GPU copies asynchronously."""
        return self.kind == "cuda"

    @property
    def has_clock(self) -> bool:
        """Whether `mark_time` follows the device's own work, which is done while the host waits."""
        return self.kind == "cuda"

    @property
    def decodes_jpegs(self) -> bool:
        """Whether `decode_jpegs` leaves the work to the device, not to a core."""
        return self.kind == "cuda"

    @property
    def most_workers(self) -> int:
        """The loader workers that leave a core to the training process."""
        return _count_spare_cores(self.threads)

    @property
    def loader_config(self) -> LoaderConfig:
        return LoaderConfig(self.workers, self.threads, self.pin_memory)

    def describe_machine(self, deterministic: bool, ranks: int) -> str:
        """The properties that the last bits of the weights depend on."""
        if self.kind == "cpu":
            properties = [torch.backends.cpu.get_cpu_capability(), format_count(self.threads, "thread")]
        elif self.kind == "mps":
            properties = [f"macOS {platform.mac_ver()[0]}"]
        else:
            properties = [_describe_gpu(self.torch.index), f"cuDNN {torch.backends.cudnn.version()}"]
            properties += [] if deterministic else ["not deterministic"]
        properties += [f"torch {torch.__version__}", *([format_count(ranks, "rank")] if ranks > 1 else [])]
        return f"{self.kind} in {self.precision} ({', '.join(properties)})"

    @property
    def backend(self) -> str:
        """The backends of torch.distributed, for tensors on the CPU and on the device."""
        return "cpu:gloo,cuda:nccl" if self.kind == "cuda" else "gloo"

    @property
    def ids(self) -> list[int] | None:
        """The argument `device_ids` of DistributedDataParallel."""
        return [int(self.torch.index)] if self.kind == "cuda" else None

    def select(self) -> None:
        """Makes it the current CUDA device: else pinned memory, for one, takes some hundred MB of the first GPU."""
        if self.kind == "cuda":
            os.environ.setdefault(*CUBLAS_WORKSPACE)  # cuBLAS reads it once, before its first product
            torch.cuda.set_device(self.torch)

    @contextmanager
    def deterministic(self, enabled: bool = True, *, tolerant: bool = False) -> Iterator[None]:
        """Inside, a GPU gives the same bits in every run; or it uses its fastest kernels. No effect on a CPU.

        Args:
            enabled: False lets cuDNN compare its kernels and choose the fastest, which may be another one in each run.
            tolerant: also runs operations that have no deterministic kernel. The gradient of attention is then none
                either: torch takes its deterministic kernels only if it may refuse the others
                (aten/src/ATen/native/transformers/cuda/attention_backward.cu).

        Raises:
            TrainingError: an operation has no deterministic kernel.
        """
        if self.kind != "cuda":
            yield
            return
        cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        settings = cudnn.benchmark, memory.fill_uninitialized_memory
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", NONDETERMINISTIC.pattern)
                torch.use_deterministic_algorithms(enabled, warn_only=enabled and tolerant)
                cudnn.benchmark, memory.fill_uninitialized_memory = not enabled, False
                yield
        except RuntimeError as error:
            if not enabled or tolerant or "deterministic" not in str(error):
                raise
            raise TrainingError(
                f"{_name_operation(error)} has no deterministic kernel on {self.name}",
                hint="set train.deterministic = false in config.toml",
            ) from None
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            cudnn.benchmark, memory.fill_uninitialized_memory = settings

    def list_nondeterministic(self, run: Callable[[], object]) -> list[str]:
        """The operations of a function that have no deterministic kernel on a GPU, in torch's words; none on a CPU."""
        if self.kind != "cuda":
            return []
        with suppress(TrainingError):
            with self.deterministic():
                run()
            return []
        with self.deterministic(tolerant=True), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        return sorted({_name_operation(one.message) for one in caught if "deterministic" in str(one.message)})

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Inside, scores are those of an exported graph, and the same in every run."""
        with disable_tf32(), self.deterministic(tolerant=True):
            yield

    @property
    def activities(self) -> list[ProfilerActivity]:
        return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.kind == "cuda" else [])]

    def synchronize(self) -> None:
        """Waits for the kernels of a GPU."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.torch)
        elif self.kind == "mps":
            torch.mps.synchronize()

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Mixed precision for a training step; no effect in fp32. On a CPU, depthwise convolutions stay in fp32."""
        dtype = PRECISIONS[self.precision]
        mixed = torch.autocast(self.torch.type, dtype or torch.bfloat16, enabled=dtype is not None)
        with mixed, _DepthwiseInFp32() if self.kind == "cpu" and dtype is not None else nullcontext():
            yield

    def make_scaler(self) -> GradScaler:
        """A loss scaler, enabled in fp16 only."""
        return GradScaler(self.torch.type, enabled=self.precision == "fp16")

    def prepare(self, network: Network) -> Network:
        """Moves a network to the device; selects the device, and sets torch's threads and the network's layout.

        Raises:
            DeviceError: the memory of a GPU is short.
        """
        self.select()
        torch.set_num_threads(self.threads)
        if self.name == "cpu":
            machine.keep_freed_memory()
        layout = torch.contiguous_format if self.kind == "mps" else torch.channels_last
        with self.explain_memory("for the network"):
            return network.to(self.torch, memory_format=layout)  # type: ignore[call-overload]  # takes both

    def seed(self, number: int) -> None:
        """Seeds torch's random numbers on the host and on the device.

        `torch.manual_seed` also notes a seed, with its place in the code, for GPUs that are never used.
        """
        if self.kind == "cpu":
            torch.default_generator.manual_seed(number)
        else:
            torch.manual_seed(number)

    def free_cache(self) -> None:
        """Gives back memory that torch keeps for later tensors on a GPU, or malloc on a CPU."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()
        elif self.kind == "mps":
            torch.mps.empty_cache()
        else:
            machine.return_freed_memory()

    def pin(self, tensor: Tensor) -> Tensor:
        """Copies a tensor of this process to pinned memory, if the device copies from there; see `send`."""
        return tensor.pin_memory() if self.pin_memory else tensor

    def send(self, tensor: Tensor) -> Tensor:
        """Copies a tensor to the device, asynchronously from pinned memory.

        MPS gets images [B, S, S, 3] that are [B, 3, S, S] in memory: some of its operations are wrong in channels_last.
        """
        return self.arrange(tensor).to(self.torch, non_blocking=self.pin_memory)

    def arrange(self, tensor: Tensor) -> Tensor:
        """Images in the layout that the device needs, see `send`; all other tensors as they are."""
        if self.kind == "mps" and tensor.ndim == 4:
            return tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        return tensor

    def decode_jpegs(self, contents: list[Tensor]) -> list[Tensor]:
        """Decodes JPEGs, on a GPU by nvJPEG; the host waits for it.

        Args:
            contents: uint8 [N] each, on the host.

        Returns:
            uint8 [3, H, W] each, on the device.

        Raises:
            RuntimeError: one of them cannot be decoded, or memory is short.
            DeviceError: torchvision no longer has the function, which is deprecated since 0.29.
        """
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except ImportError:
            raise DeviceError(
                "this version of torchvision decodes no JPEGs", hint="set augment.decode = 'cpu' in config.toml"
            ) from None
        where = self.torch if self.decodes_jpegs else torch.device("cpu")
        decoded = decode_jpeg(contents, mode=ImageReadMode.RGB, device=where)
        return [self.send(picture) for picture in decoded]

    def send_arrays(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """Copies int32 and float32 arrays to the device, all at once."""
        flat = [np.ascontiguousarray(array).reshape(-1).view(np.int32) for array in arrays]
        parts = self.send(self.pin(torch.from_numpy(np.concatenate(flat)))).split([len(part) for part in flat])
        return [
            part.view(torch.float32 if array.dtype == np.float32 else torch.int32).view(array.shape)
            for part, array in zip(parts, arrays, strict=True)
        ]

    def send_batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; for a GPU, their images are there, copied while it computes the step before.

        No batch is taken from the loader before its turn: the host runs ahead of a GPU, so it asks for a batch, and
        starts the copy on a stream of its own, while the step before is still to be computed. Steps that are counted,
        and errors of a batch, are therefore where they were. Without pinned memory the copy waits for itself.
        On a CPU and a Mac, the batches are handed on.
        """
        return self._copy_aside(batches) if self.kind == "cuda" else iter(batches)

    def _copy_aside(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        aside = torch.cuda.Stream(self.torch)
        for batch in batches:
            with torch.cuda.stream(aside):
                images = self.send(batch.images)
            current = torch.cuda.current_stream(self.torch)
            current.wait_stream(aside)  # the step waits for the copy, not the host
            images.record_stream(current)  # else a later copy could take the memory before the step has read it
            yield batch._replace(images=images)

    def mark_time(self) -> Moment:
        """A point behind all work that the device was given so far; waits for nothing. Without a clock: now."""
        if not self.has_clock:
            return time.perf_counter()
        moment = torch.cuda.Event(enable_timing=True)
        moment.record(torch.cuda.current_stream(self.torch))
        return moment

    def is_memory_error(self, error: BaseException) -> bool:
        """Whether an error means that the device is short of memory; for a GPU, the host's memory does not count."""
        if self.kind == "cuda" and NO_START.search(str(error)):
            return True
        of_gpu = isinstance(error, torch.OutOfMemoryError) or GPU_ERROR.search(str(error)) is not None
        return machine.is_memory_error(error) and (of_gpu or self.kind != "cuda")

    @contextmanager
    def explain_memory(self, purpose: str) -> Iterator[None]:
        """Turns short memory of a GPU, where smaller batches do not help, into a DeviceError."""
        try:
            yield
        except RuntimeError as error:
            if self.kind == "cpu" or not self.is_memory_error(error):
                raise
            raise DeviceError(
                f"{self.name} has not enough memory {purpose}",
                problems=_quote_start(error),
                hint="end other programs that use this GPU, or pass --device cpu",
            ) from None


class _DepthwiseInFp32(TorchFunctionMode):
    """Inside, depthwise convolutions are computed in fp32: oneDNN has no fast bf16 kernels for most of their gradients.

    For EfficientNet-Lite0 at 128 px these gradients take five times as long in bf16.
    """

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or not _is_depthwise(*args, **kwargs):
            return func(*args, **kwargs)
        image, *rest = args
        with torch.autocast("cpu", enabled=False):
            return func(image.float(), *rest, **kwargs)


def _is_depthwise(image: Tensor, weight: Tensor, *_: Any, **_keywords: Any) -> bool:
    """Whether the arguments of `torch.conv2d` are those of a convolution in which each channel has its own filters."""
    return weight.shape[1] == 1 < image.shape[-3]


def compute_seconds(start: Moment, end: Moment) -> float:
    """The time between two points of a device's work. A GPU must have reached both: wait for it before."""
    if isinstance(start, float) or isinstance(end, float):
        return cast(float, end) - cast(float, start)
    return float(start.elapsed_time(end)) / 1000


def _count_spare_cores(threads: int) -> int:
    return max(MIN_WORKERS, threads - 1)


def choose_device(
    requested: str,
    precision: str | None,
    workers: int | None,
    *,
    batch_bytes: int = 0,
    threads: int | None = None,
) -> Device:
    """Chooses the device, its precision, threads and loader workers.

    Args:
        requested: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'; 'auto' and 'cuda' leave out GPUs that torch has no kernels
            for, and 'auto' does not choose 'mps'.
        precision: 'auto' chooses bf16 or fp16 if the device computes in it, else fp32; None is for scoring, in fp32.
        workers: loader processes; None chooses, and takes fewer where shared memory is short.
        batch_bytes: the size of a batch of images; 0 does not look at shared memory.
        threads: CPUs to use; None takes all of this process.

    Raises:
        DeviceError: there is no such device, or there are GPUs that torch cannot use and 'auto' was requested.
        ConfigError: the name is unknown, or the device cannot train in that precision.
    """
    name, why = _resolve_name(requested)
    threads, kind = threads or machine.count_cores(), torch.device(name).type
    if kind == "cpu":
        best, reason = _choose_cpu_precision()
    elif kind == "mps":
        best, reason = "fp32", "MPS trains in fp32"
    else:
        used = [torch.device(name).index] if ":" in requested else _list_usable_gpus()
        best, reason = _choose_cuda_precision(min(torch.cuda.get_device_capability(number) for number in used))
    if precision == "fp16" and kind == "cpu":
        raise ConfigError(
            "train.precision = 'fp16' needs a CUDA device", hint="set train.precision to 'auto', 'bf16' or 'fp32'"
        )
    if precision in ("fp16", "bf16") and kind == "mps":
        raise ConfigError(
            f"train.precision = '{precision}': MPS trains in fp32", hint="set train.precision to 'auto' or 'fp32'"
        )
    chosen, reason = {"auto": (best, reason), None: ("fp32", "scores are always fp32")}.get(
        precision, (str(precision), "set in config.toml")
    )
    limit = ""
    if workers is None:  # on a CPU the network uses all cores; a worker process would only compete for them
        wanted = 0 if kind == "cpu" else min(MAX_WORKERS, _count_spare_cores(threads))
        workers = min(wanted, loader.count_fitting_workers(batch_bytes))
        limit = f" ({loader.describe_shared_memory()})" if workers < wanted else ""
    line = (
        f"{why}; {chosen}: {reason}; {format_count(threads, 'thread')}, {format_count(workers, 'loader worker')}{limit}"
    )
    return Device(name, chosen, threads, workers, line, batch_bytes)


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
        every = ["mps"] if device.kind == "mps" else [f"cuda:{number}" for number in _list_usable_gpus()]
        names = every if requested in ("auto", "cuda") else [device.name]
        if len(names) < ranks:
            raise DeviceError(
                f"--gpus-per-fold {ranks}: there {_count_gpus(len(names), device.kind.upper())}",
                hint=f"pass --gpus-per-fold {len(names)}" + ("" if names == every else ", or --device auto"),
            )
        count = min(jobs or len(names) // ranks, folds or sys.maxsize)
        names = [names[number % len(names)] for number in range(count * ranks)]
    threads, workers = max(1, device.threads // len(names)), device.workers
    if len(names) > 1 and workers:
        fitting = loader.count_fitting_workers(device.batch_bytes) // len(names)
        workers = min(workers, _count_spare_cores(threads), fitting)
    shares = [replace(device, name=name, threads=threads, workers=workers) for name in names]
    return [shares[first : first + ranks] for first in range(0, len(shares), ranks)]


def list_devices(device: Device, count: int) -> list[Device]:
    """One device for each rank: a CPU `count` times, or the first `count` GPUs."""
    return [device if device.name == "cpu" else replace(device, name=f"cuda:{number}") for number in range(count)]


def _count_gpus(count: int, kind: str) -> str:
    return format_are(count, f"{kind} device")


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


def check_name(requested: str) -> None:
    """Checks a value of --device.

    Raises:
        ConfigError: no machine has a device of this name.
    """
    kind, _, index = requested.partition(":")
    if requested not in ("auto", "cpu", "cuda", "mps") and not (kind == "cuda" and index.isdecimal()):
        raise ConfigError(
            f"unknown device '{requested}': known: auto, cpu, cuda, cuda:N, mps", hint="pass --device auto"
        )


def _resolve_name(requested: str) -> tuple[str, str]:
    check_name(requested)
    if requested == "cpu":
        return "cpu", "the CPU, as requested"
    has_mps = torch.backends.mps.is_available()
    if requested == "mps":
        if not has_mps:
            raise DeviceError("no MPS device: torch finds no GPU of a Mac", hint=OTHER_DEVICE)
        return "mps", "the GPU of this Mac, as requested"
    index = requested.partition(":")[2]
    if not torch.cuda.is_available():
        driver = cuda.query_driver()
        if driver is not None:
            fault = _find_cuda_fault()
            raise cuda.explain_unusable(driver, f"torch {torch.__version__}", torch.version.cuda, fault)
        if requested == "auto":
            return "cpu", f"the CPU: there is no CUDA device{'; --device mps is the GPU of this Mac' * has_mps}"
        raise DeviceError(f"no CUDA device {index or 0}: there is none", hint=OTHER_DEVICE)
    count, usable = torch.cuda.device_count(), _list_usable_gpus()
    number = int(index) if index else next(iter(usable), 0)
    if number >= count:
        raise DeviceError(f"no CUDA device {number}: there {format_are(count)}", hint=OTHER_DEVICE)
    if number not in usable:
        raise DeviceError(
            f"torch {torch.__version__} has no kernels for cuda:{number} ({_describe_gpu(number)}); it has those for "
            f"{', '.join(torch.cuda.get_arch_list())}",
            hint=f"install a torch with kernels for it, or {OTHER_DEVICE if usable else 'pass --device cpu'}",
        )
    name = f"cuda:{number} ({torch.cuda.get_device_name(number)})"
    if requested != "auto":
        return f"cuda:{number}", f"{name}, as requested"
    left_out = [f"cuda:{other} ({_describe_gpu(other)})" for other in range(count) if other not in usable]
    without = f", without {', '.join(left_out)}: torch has no kernels for it" if left_out else ""
    return f"cuda:{number}", f"{name}, the first of {len(usable)}{without}"


def _name_operation(message: object) -> str:
    first = str(message).partition("\n")[0]
    found = NONDETERMINISTIC.match(first)
    return found[1] if found else first


def _describe_gpu(number: int) -> str:
    capability = cuda.format_version(torch.cuda.get_device_capability(number))
    return f"{torch.cuda.get_device_name(number)}, compute capability {capability}"


def _list_usable_gpus() -> list[int]:
    """The GPUs that torch has kernels for."""
    known, gpus = torch.cuda.get_arch_list(), range(torch.cuda.device_count())
    return [number for number in gpus if cuda.has_kernels(torch.cuda.get_device_capability(number), known)]


def _find_cuda_fault() -> str:
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return get_first_line(error)
    return "it gives no reason"


def _choose_cpu_precision() -> tuple[str, str]:
    return ("bf16", "the CPU multiplies in bf16") if _has_cpu_bf16() else ("fp32", "the CPU has no bf16")


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
        if not device.is_memory_error(error):
            raise  # smaller batches do not help when the host of a GPU is short of memory
        raise _describe_oom(config, device, _quote_start(error)) from None


def _quote_start(error: BaseException) -> list[str]:
    """An error that may have another cause than short memory."""
    return [f"torch: {get_first_line(error)}"] if NO_START.search(str(error)) else []


def _describe_oom(config: Config, device: Device, problems: list[str]) -> TrainingError:
    size, parts = config.train.batch_size, config.train.micro_batches
    in_parts = f" in {parts} micro-batches" if parts > 1 else ""
    return TrainingError(
        f"{device.name} has not enough memory for {config.model.backbone} at {config.model.size} px with batches of "
        f"{size}{in_parts}",
        problems=problems,
        hint=f"set train.micro_batches = {2 * parts}, or train.batch_size = {size // 2}, in config.toml"
        if size > parts
        else "set a smaller model.size or another model.backbone in config.toml",
    )


def describe_library() -> str:
    """Returns the version of torch and its CUDA."""
    return f"{torch.__version__}, {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'for CPUs'}"

"""ONNX Runtime on a CPU, with CUDA and with TensorRT. Its silent fallback to the CPU is an error here.

Options of the CUDA provider: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
Options of TensorRT: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from __future__ import annotations

import ctypes
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core import cuda, files, links, machine, manifests
from ffdi.core.errors import ConfigError, DeviceError, format_count, get_first_line
from ffdi.inference.backend import DEFAULT, NO_DEVICE, NO_OPTIONS, Load, OpenGraph, Run, Runtime, Setup, pad_batches

EXTRAS = "pip install -e '.[cpu]', or '.[cuda12]' or '.[cuda13]' on a machine with a GPU (docs/install.md)"
try:
    import onnxruntime
except ModuleNotFoundError as error:
    if error.name != "onnxruntime":
        raise
    raise ConfigError("ONNX Runtime is not installed", hint=EXTRAS) from None
if not hasattr(onnxruntime, "InferenceSession"):  # pip leaves such a folder when it removes one of two packages
    raise ConfigError("ONNX Runtime is damaged", hint=f"pip uninstall onnxruntime onnxruntime-gpu, then {EXTRAS}")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
CPU_BATCH = 4
"""Batch size on a CPU: larger batches are not faster, and at the end one core waits for another."""
DEVICE_BATCH = 64
BATCH_DIMENSION = "batch"
"""Name of the batch size in the graphs of `export.onnx`."""
WINDOWS = sys.platform == "win32"
LOAD_WITH_ALTERED_SEARCH_PATH = 8
"""How ONNX Runtime loads its libraries on Windows."""
INT8 = (
    "an int8 graph is for CPUs: on a GPU its layers run in fp32, with conversions around each; "
    "export with --precision fp16 for a GPU"
)
INT8_TENSORRT = "TensorRT refuses uint8 activations, which an int8 graph has; export with --precision fp16 for a GPU"
OPTIONS: dict[str, dict[str, Any]] = {NO_OPTIONS: {}, "nhwc": {"prefer_nhwc": 1}, "graph": {"enable_cuda_graph": 1}}
"""What may make CUDA faster. cudnn_conv_algo_search is not here: its default asks cuDNN's better heuristic.

'nhwc' is only for tensor cores, which prefer this layout. For exact fp32, cuDNN has hardly any convolution in it, and
ONNX Runtime takes one with TF32 where there is none. 'graph' launches all kernels at once, from a recorded CUDA graph.
"""
Provider = str | tuple[str, dict[str, Any]]
"""A provider, or a provider with options."""


class Request(NamedTuple):
    """A graph to open on a device, with a fixed batch."""

    model: Path
    number: int
    batch: int
    setup: Setup


ListProviders = Callable[[Request], list[Provider]]
"""Returns providers with options, the requested one first."""


def open_on_cpu(name: str, model: Path, _index: int, load: Load, _setup: Setup = DEFAULT) -> OpenGraph:
    """Opens a graph on the CPU; a call with one thread runs in the thread of its caller."""
    session = _open_session(model, [CPU], load.threads)
    why = f"ONNX Runtime on the CPU, {load.streams} x {format_count(load.threads, 'thread')}"
    return OpenGraph(name, CPU, why, load.choose_batch(CPU_BATCH), load.streams, partial(_run_session, session))


def open_on_device(
    providers: ListProviders, name: str, model: Path, index: int, load: Load, setup: Setup = DEFAULT
) -> OpenGraph:
    """Opens a graph on a device, with permanent buffers there, and scores one batch of black images.

    Raises:
        DeviceError: ONNX Runtime does not use the provider of the device, or the graph does not run there.
    """
    _preload_libraries()
    request = Request(model, index, load.choose_batch(DEVICE_BATCH), setup)
    wanted = providers(request)
    session = _open_session(model, wanted, 1, request.batch)
    runs = session.get_providers()[0]
    if runs != wanted[0][0]:
        library = _find_missing_library(wanted[0][0])
        raise DeviceError(
            f"--device {name}:{index}: ONNX Runtime fell back to {runs}; its libraries for {name} did not load"
            + (f": {library}" if library else ""),
            hint="pass --device auto or --device cpu",
        )
    run = _bind_buffers(session, request)
    options = setup.options or ((NO_OPTIONS,) if wanted[0][0] == CUDA else ())
    why = f"ONNX Runtime, {name} device {index}"
    return OpenGraph(name, runs, why, request.batch, 1, pad_batches(run, request.batch), options)


def open_autoencoder(model: Path, threads: int) -> Run:
    """Opens a graph that gives images back, on the CPU: float32 [1, 3, H, W] -> the same shape.

    Raises:
        DeviceError: the graph cannot be opened; the function that is returned raises it if the graph does not run.
    """
    return partial(_run_session, _open_session(model, [CPU], threads))


def _run_session(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    with _explain_errors("the graph does not run"):
        (y_pred,) = session.run(None, {session.get_inputs()[0].name: images})
    return y_pred


def _bind_buffers(session: onnxruntime.InferenceSession, request: Request) -> Run:
    """Returns a function that runs a fixed batch through buffers on the device, without allocations.

    One thread runs all batches: the buffers are shared, and a CUDA graph must not be used by several threads. The first
    batch records the CUDA graph; all later ones, such as the golden images, replay it.
    """
    given, wanted = session.get_inputs()[0], session.get_outputs()[0]
    create, place = onnxruntime.OrtValue.ortvalue_from_shape_and_type, ("cuda", request.number)
    with _explain_errors(f"there is no memory on device {request.number} for a batch of {request.batch}"):
        images = create([request.batch, *given.shape[1:]], np.uint8, *place)
        y_pred = create([request.batch, *wanted.shape[1:]], np.float32, *place)
        binding = session.io_binding()
        binding.bind_ortvalue_input(given.name, images)
        binding.bind_ortvalue_output(wanted.name, y_pred)

    def run(filled: np.ndarray) -> np.ndarray:
        filled = np.ascontiguousarray(filled)
        with _explain_errors(f"the graph does not run on device {request.number}"):
            images.update_inplace(filled)
            session.run_with_iobinding(binding)
            return y_pred.numpy()

    thread = ThreadPoolExecutor(1)
    thread.submit(run, np.zeros((request.batch, *given.shape[1:]), np.uint8)).result()
    return lambda filled: thread.submit(run, filled).result()


def _list_cuda_providers(tf32: bool, request: Request) -> list[Provider]:
    """The CUDA provider.

    use_tf32 = 0 takes the tensor cores from fp16 as well: `Conv::CreateCudnnFeExecutionPlan` of ONNX Runtime then
    refuses all plans of cuDNN with the note TENSOR_CORE, whatever the graph's type.
    """
    options = {"device_id": request.number, "use_tf32": int(tf32 or request.setup.precision == "fp16")}
    for option in request.setup.options:
        options |= OPTIONS[option]
    return [(CUDA, options), CPU]


def _list_tensorrt_providers(request: Request) -> list[Provider]:
    options: dict[str, Any] = {"device_id": request.number}
    if request.setup.precision == "fp16":
        options["trt_fp16_enable"] = True
    if request.setup.engines is not None:  # an engine takes minutes to build
        folder = links.join(request.setup.engines, _name_engine(request))
        with files.explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
        options |= {"trt_timing_cache_enable": True, "trt_timing_cache_path": str(folder)}
    return [(TENSORRT, options), *_list_cuda_providers(True, request)]


def _name_engine(request: Request) -> str:
    """A hash of all that an engine depends on: ONNX Runtime's own name for it ignores weights and versions."""
    driver, library = cuda.query_driver(), _read_tensorrt_name()
    gpus = driver.gpus[request.number : request.number + 1] if driver else ()
    version = 0
    with suppress(OSError):  # it is not installed: ONNX Runtime will fall back, which is an error
        version = ctypes.CDLL(library).getInferLibVersion() if library else 0  # 101303 of TensorRT 10.13.3
    parts = (manifests.hash_file(request.model), gpus, version, onnxruntime.__version__, request.batch)
    return manifests.hash_text(f"{parts} {request.setup.precision}")


def _explain_missing(provider: str, index: int) -> str:
    """Returns why a device cannot run here; empty if it can. ONNX Runtime lists CUDA on machines without devices."""
    driver = cuda.query_driver()
    if driver is None:
        return NO_DEVICE
    if driver.fault:
        return f"the CUDA driver does not work: {driver.fault}"
    if provider not in onnxruntime.get_available_providers():
        return _explain_build()
    built = _read_cuda_version()
    if built and int(built.partition(".")[0]) > driver.cuda[0]:
        return (
            f"onnxruntime {onnxruntime.__version__} needs a driver for CUDA {built}, and this one is for CUDA "
            f"{cuda.format_version(driver.cuda)}"
        )
    if index >= len(driver.gpus):
        return f"there is no device {index}, only {len(driver.gpus)}"
    _preload_libraries()
    return _find_missing_library(provider)


def _explain_build() -> str:
    """Why ONNX Runtime lacks a provider: it is built for CPUs, or a package for CPUs has replaced its files."""
    both = ("onnxruntime", "onnxruntime-gpu")
    if all(machine.find_version(package) for package in both):
        return (
            f"{' and '.join(both)} are both installed, and one has replaced files of the other: "
            f"pip uninstall {' '.join(both)}, then install one of the extras cuda12 and cuda13 (docs/install.md)"
        )
    return "this onnxruntime was built without it: install one of the extras cuda12 and cuda13 (docs/install.md)"


def _read_cuda_version() -> str:
    """The version of CUDA that ONNX Runtime was built for, such as '13.0'; empty if it does not say."""
    return str(getattr(onnxruntime, "cuda_version", None) or "")


@cache
def _preload_libraries() -> tuple[str, ...]:
    """Loads the libraries of the installed packages of CUDA and TensorRT; returns the names of missing ones.

    On Linux those of CUDA are the packages nvidia-*, which torch brings; on Windows they are in torch's own folder.
    ONNX Runtime prints its reasons.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        with suppress(OSError, RuntimeError):  # a folder of torch is missing; the provider will lack its libraries
            getattr(onnxruntime, "preload_dlls", lambda: None)()  # since 1.21
        with suppress(ImportError):  # it is not installed
            import_module("tensorrt_libs")
    return tuple(re.findall(r"^Failed to load (\S+): ", printed.getvalue(), re.MULTILINE))


def _find_missing_library(provider: str) -> str:
    """Which library a provider lacks, and the command that installs it; empty if it lacks none, or ONNX Runtime knows.

    ONNX Runtime itself only logs the reason.
    """
    library = _get_library(provider)
    try:
        ctypes.CDLL(str(library), winmode=LOAD_WITH_ALTERED_SEARCH_PATH)
        return ""
    except OSError as error:
        if not library.is_file() or not (WINDOWS or "cannot open shared object file" in str(error)):
            return ""
        missing = str(error).partition(":")[0]
    if WINDOWS:  # whose message names the provider's library
        missing = ", ".join(_preload_libraries()) or (_read_tensorrt_name() if provider == TENSORRT else library.name)
    if found := re.search(r"nv(?:infer|onnxparser)\D*(\d+)", missing):
        cuda_major = _read_cuda_version().partition(".")[0] or "12"
        return f"{missing} is missing: pip install 'tensorrt-cu{cuda_major}=={found[1]}.*'"
    return f"{missing} is missing: pip install 'onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}'"


def _get_library(provider: str) -> Path:
    name = f"onnxruntime_providers_{provider.removesuffix('ExecutionProvider').lower()}"
    return Path(onnxruntime.__file__).parent / "capi" / (f"{name}.dll" if WINDOWS else f"lib{name}.so")


def _read_tensorrt_name() -> str:
    """The file name of TensorRT in the version that ONNX Runtime needs, such as libnvinfer.so.10; empty if unknown."""
    library = _get_library(TENSORRT)
    found = re.search(rb"(?:lib)?nvinfer(?:\.so\.\d+|_\d+\.dll)", library.read_bytes()) if library.is_file() else None
    return found[0].decode() if found else ""


def _open_session(
    model: Path, providers: Sequence[Provider], threads: int, batch: int | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the caller reports errors
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if batch is not None:  # all shapes are known then, and none is computed on the CPU in each run
        options.add_free_dimension_override_by_name(BATCH_DIMENSION, batch)
    with _explain_errors("the graph cannot be opened"), redirect_stdout(io.StringIO()) as printed:
        session = onnxruntime.InferenceSession(
            str(model),
            options,
            providers=providers,
            disabled_optimizers=["WeightBiasQuantization"],  # it quantises the fp32 layers of an int8 graph
            enable_fallback=0,  # after an error it would run on the CPU, with words on stdout
        )
        session.disable_fallback()
        if found := re.search(r"^EP Error (.*?)(?: when using |$)", printed.getvalue(), re.MULTILINE):
            raise RuntimeError(found[1])  # of a version without enable_fallback, such as 1.22
    return session


@contextmanager
def _explain_errors(what: str) -> Iterator[None]:
    """Turns errors of ONNX Runtime into a DeviceError, so that another runtime can be tried."""
    try:
        yield
    except Exception as error:  # ONNX Runtime raises its own errors, whose base class this is, and RuntimeError
        if type(error) is not RuntimeError and type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise DeviceError(
            f"{what}: {get_first_line(error)}", hint="pass --device cpu, or --device auto for another runtime"
        ) from None


def _build_runtime(
    name: str,
    provider: str,
    providers: ListProviders,
    *,
    exact: bool,
    offered: bool,
    options: dict[str, tuple[str, ...]],
    refused: dict[str, str],
) -> Runtime:
    return Runtime(
        exact,
        offered,
        True,
        partial(_explain_missing, provider),
        partial(open_on_device, providers, name),
        refused,
        options,
    )


RUNTIMES = {
    "cuda": _build_runtime(
        "cuda",
        CUDA,
        partial(_list_cuda_providers, False),
        exact=True,
        offered=True,
        options={"fp32": ("graph",), "fp16": ("nhwc", "graph")},
        refused={"int8": INT8},
    ),
    "cuda-tf32": _build_runtime(
        "cuda-tf32",
        CUDA,
        partial(_list_cuda_providers, True),
        exact=False,
        offered=True,
        options={"fp32": ("nhwc", "graph")},
        refused={"int8": INT8, "fp16": "TF32 is for fp32; cuda computes an fp16 graph on the tensor cores"},
    ),
    "tensorrt": _build_runtime(
        "tensorrt",
        TENSORRT,
        _list_tensorrt_providers,
        exact=False,
        offered=False,
        options={},
        refused={"int8": INT8_TENSORRT},
    ),
    "cpu": Runtime(True, True, False, lambda _index: "", partial(open_on_cpu, "cpu")),
}


def describe_library() -> str:
    """Returns the version of ONNX Runtime, its CUDA and its providers."""
    built = getattr(onnxruntime, "cuda_version", None)
    providers = ", ".join(onnxruntime.get_available_providers())
    return f"{onnxruntime.__version__}, {f'for CUDA {built}' if built else 'for CPUs'}, with {providers}"


def choose_extra(torch: str) -> str:
    """Returns the extra of ffdi with the ONNX Runtime that uses the libraries of a build of torch.

    Args:
        torch: its version, such as '2.10.0+cu128'.
    """
    build = re.search(r"\+cu(\d+)\d$", torch)
    return f"cuda{build[1]}" if build else "cpu"

"""ONNX Runtime's devices: its answers and those of the driver are faked, for it falls back without a word."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from ffdi.core import cuda
from ffdi.core.cuda import Driver, Gpu
from ffdi.core.errors import ConfigError, DeviceError
from ffdi.export import onnx
from ffdi.inference import onnxruntime as ort
from ffdi.inference.backend import NO_DEVICE, Load, Setup
from tests.conftest import PROJECT
from tests.export.test_onnx import exported, images, single

GPU = Gpu("Tesla T4", (7, 5))
MODEL = Path("folder") / "model.onnx"
MANY = Load(1000, 4, 1)


class Value:
    """Fake of a buffer on a device."""

    def __init__(self, shape: list[int], kind: type, device: str, index: int) -> None:
        self.place, self.content = (device, index), np.zeros(shape, kind)

    def update_inplace(self, content: np.ndarray) -> None:
        assert (content.shape, content.dtype) == (self.content.shape, self.content.dtype)
        self.content = content.copy()

    def numpy(self) -> np.ndarray:
        return self.content.copy()


class Argument:
    """Fake of a session's input or output."""

    def __init__(self, name: str, shape: list[Any]) -> None:
        self.name, self.shape = name, shape


class Binding:
    """Fake of an IO binding."""

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        assert name == "images"
        self.images = value

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        assert name == "y_pred"
        self.y_pred = value


class Session:
    """Fake of an InferenceSession, on a device that works, and that can record a CUDA graph."""

    works, captures = True, True
    providers: list[Any] = []  # noqa: RUF012 (reset by each session)
    threads = 0
    runs: list[tuple[int, float]] = []  # noqa: RUF012 (reset by the fixture)
    """The thread and the mean of each batch."""

    def __init__(
        self,
        _model: str,
        options: onnxruntime.SessionOptions,
        providers: list[Any],
        disabled_optimizers: list[str],
        enable_fallback: int,
    ) -> None:
        assert (options.log_severity_level, disabled_optimizers) == (4, ["WeightBiasQuantization"])
        assert enable_fallback == 0
        Session.providers, Session.threads = providers, options.intra_op_num_threads

    def disable_fallback(self) -> None:
        pass

    def get_providers(self) -> list[str]:
        names = [one if isinstance(one, str) else one[0] for one in Session.providers]
        return names if Session.works else ["CPUExecutionProvider"]

    def get_inputs(self) -> list[Argument]:
        return [Argument("images", ["batch", 2, 2, 3])]

    def get_outputs(self) -> list[Argument]:
        return [Argument("y_pred", ["batch"])]

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        if not Session.captures and Session.providers[0][1].get("enable_cuda_graph"):
            raise RuntimeException("CUDA error 900: operation not permitted when stream is capturing")
        Session.runs.append((threading.get_ident(), float(binding.images.content.mean())))
        binding.y_pred.content = binding.images.content.mean((1, 2, 3)).astype(np.float32)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with two devices on which ONNX Runtime starts."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort.TENSORRT, ort.CUDA, ort.CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", Value)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(cuda, "query_driver", lambda: Driver((13, 0), (GPU, GPU)))
    monkeypatch.setattr(ort, "_find_missing_library", lambda _provider: "")
    monkeypatch.setattr(Session, "works", True)
    monkeypatch.setattr(Session, "captures", True)
    monkeypatch.setattr(Session, "runs", [])
    ort._preload_libraries.cache_clear()
    yield monkeypatch
    ort._preload_libraries.cache_clear()


PROVIDERS = {
    "cuda": [(ort.CUDA, {"device_id": 1, "use_tf32": 0}), ort.CPU],
    "cuda-tf32": [(ort.CUDA, {"device_id": 1, "use_tf32": 1}), ort.CPU],
    "tensorrt": [
        (ort.TENSORRT, {"device_id": 1}),
        (ort.CUDA, {"device_id": 1, "use_tf32": 1}),
        ort.CPU,
    ],
}


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_device_is_opened_with_its_options(name: str) -> None:
    runtime = ort.RUNTIMES[name]
    assert runtime.missing(1) == ""
    graph = runtime.open(MODEL, 1, MANY)
    assert Session.providers == PROVIDERS[name]
    assert (graph.runtime, graph.provider, graph.batch, graph.streams) == (name, PROVIDERS[name][0][0], 64, 1)
    assert graph.device == {"cuda": "cuda+plain", "cuda-tf32": "cuda-tf32+plain", "tensorrt": "tensorrt"}[name]


@pytest.mark.usefixtures("machine")
def test_a_graph_of_fp16_may_use_tensor_cores() -> None:
    ort.RUNTIMES["cuda"].open(MODEL, 0, MANY, Setup("fp16"))
    assert Session.providers[0] == (ort.CUDA, {"device_id": 0, "use_tf32": 1})
    ort.RUNTIMES["tensorrt"].open(MODEL, 0, MANY, Setup("fp16"))
    assert Session.providers[0] == (ort.TENSORRT, {"device_id": 0, "trt_fp16_enable": True})


@pytest.mark.usefixtures("machine")
def test_options_are_passed_to_the_provider() -> None:
    graph = ort.RUNTIMES["cuda"].open(MODEL, 0, MANY, Setup("fp16", ("nhwc", "graph")))
    options = {"device_id": 0, "use_tf32": 1, "prefer_nhwc": 1, "enable_cuda_graph": 1}
    assert Session.providers[0] == (ort.CUDA, options)
    assert (graph.options, graph.device) == (("nhwc", "graph"), "cuda+nhwc+graph")


def test_exact_fp32_has_no_option_that_needs_tensor_cores() -> None:
    assert {name: ort.RUNTIMES[name].options for name in PROVIDERS} == {
        "cuda": {"fp32": ("graph",), "fp16": ("nhwc", "graph")},
        "cuda-tf32": {"fp32": ("nhwc", "graph")},
        "tensorrt": {},
    }


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_gpu_gets_an_int8_graph(name: str) -> None:
    assert ort.RUNTIMES[name].refused["int8"].endswith("; export with --precision fp16 for a GPU")
    assert ort.RUNTIMES["cpu"].refused == {}


@pytest.mark.usefixtures("machine")
def test_a_device_has_buffers_of_one_size_and_one_thread() -> None:
    graph = ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)
    assert [mean for _, mean in Session.runs] == [0]  # a black batch, which records a CUDA graph
    images = np.random.default_rng(0).integers(0, 256, (150, 2, 2, 3), np.uint8)
    found: list[np.ndarray] = []
    callers = [threading.Thread(target=lambda: found.append(graph.run(images))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    expected = images.mean((1, 2, 3)).astype(np.float32)
    assert [np.array_equal(one, expected) for one in found] == [True, True]
    assert len(Session.runs) == 7
    assert len({thread for thread, _ in Session.runs} - {threading.get_ident()}) == 1


@pytest.mark.usefixtures("machine")
def test_a_cuda_graph_that_cannot_be_recorded_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "captures", False)
    with pytest.raises(DeviceError, match="the graph does not run on device 0: CUDA error 900"):
        ort.RUNTIMES["cuda"].open(MODEL, 0, MANY, Setup(options=("graph",)))
    ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)


def test_a_fixed_batch_is_known_to_the_graph(tmp_path: Path) -> None:
    """With a real graph on the CPU: no shape is left to be computed in each run."""
    path = tmp_path / "model.onnx"
    onnx.save_graph(exported(), path, {})
    session = ort._open_session(path, [ort.CPU], 1, 5)
    assert (session.get_inputs()[0].shape[0], session.get_outputs()[0].shape) == (5, [5])
    assert np.abs(ort._run_session(session, images(5)) - single().score(images(5))).max() < 1e-5


@pytest.fixture
def engines(tmp_path: Path, machine: pytest.MonkeyPatch) -> Path:
    """A folder for engines, on a machine with TensorRT 10.13.3; the graph is written to model.onnx next to it."""
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    machine.setattr(ort, "_read_tensorrt_name", lambda: "libnvinfer.so.10")
    machine.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(getInferLibVersion=lambda: 101303))
    return tmp_path / "engines"


def open_engine(engines: Path, load: Load = MANY, setup: Setup = Setup(), index: int = 0) -> str:  # noqa: B008
    """Opens the graph with TensorRT; returns the name of its engine's folder."""
    ort.RUNTIMES["tensorrt"].open(engines.parent / "model.onnx", index, load, replace(setup, engines=engines))
    options = Session.providers[0][1]
    folder = Path(options["trt_engine_cache_path"])
    assert (options["trt_engine_cache_enable"], options["trt_timing_cache_enable"]) == (True, True)
    assert options["trt_timing_cache_path"] == str(folder)
    assert folder.parent == engines
    assert folder.is_dir()
    return folder.name


def test_an_engine_is_of_one_graph_on_one_kind_of_gpu(engines: Path, machine: pytest.MonkeyPatch) -> None:
    names = [open_engine(engines)]
    assert open_engine(engines, index=1) == names[0]  # the same kind of GPU
    names.append(open_engine(engines, Load(7, 1, 1)))
    names.append(open_engine(engines, setup=Setup("fp16")))
    machine.setattr(onnxruntime, "__version__", "1.30.0")
    names.append(open_engine(engines))
    machine.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(getInferLibVersion=lambda: 101400))
    names.append(open_engine(engines))
    machine.setattr(cuda, "query_driver", lambda: Driver((13, 0), (Gpu("NVIDIA L4", (8, 9)),)))
    names.append(open_engine(engines))
    (engines.parent / "model.onnx").write_bytes(b"the same graph with other weights")
    names.append(open_engine(engines))
    assert len(set(names)) == len(names) == 7


def test_tensorrt_that_is_not_installed_is_a_fallback(engines: Path, machine: pytest.MonkeyPatch) -> None:
    refuse(machine, "libnvinfer.so.10: cannot open shared object file")
    machine.setattr(Session, "works", False)
    machine.setattr(ort, "_find_missing_library", lambda _provider: "libnvinfer.so.10 is missing: pip install it")
    with pytest.raises(DeviceError) as caught:
        open_engine(engines)
    assert caught.value.what == (
        "--device tensorrt:0: ONNX Runtime fell back to CPUExecutionProvider; its libraries for tensorrt did not load: "
        "libnvinfer.so.10 is missing: pip install it"
    )


@pytest.mark.usefixtures("machine")
def test_a_cpu_has_a_thread_for_each_call_or_all_for_one() -> None:
    graph = ort.RUNTIMES["cpu"].open(MODEL, 0, MANY)
    assert (Session.providers, Session.threads, graph.streams) == ([ort.CPU], 1, 4)
    graph = ort.RUNTIMES["cpu"].open(MODEL, 0, Load(1, 1, 4))
    assert (Session.threads, graph.streams, graph.batch) == (4, 1, 1)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_silent_fallback_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "works", False)
    with pytest.raises(DeviceError) as caught:
        ort.RUNTIMES[name].open(MODEL, 1, MANY)
    assert str(caught.value) == (
        f"--device {name}:1: ONNX Runtime fell back to CPUExecutionProvider; its libraries for {name} did not load\n"
        "next: pass --device auto or --device cpu"
    )


def test_a_missing_device_has_a_reason(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(cuda, "query_driver", lambda: Driver((13, 0), (GPU,)))
    assert ort.RUNTIMES["cuda"].missing(0) == ""
    assert ort.RUNTIMES["cuda"].missing(1) == "there is no device 1, only 1"
    machine.setattr(cuda, "query_driver", lambda: Driver((12, 4), (GPU,)))
    assert ort.RUNTIMES["cuda"].missing(0) == (
        f"onnxruntime {onnxruntime.__version__} needs a driver for CUDA 13.0, and this one is for CUDA 12.4"
    )
    machine.setattr(onnxruntime, "cuda_version", "12.8")
    assert ort.RUNTIMES["cuda"].missing(0) == ""
    machine.delattr(onnxruntime, "cuda_version")  # as in old versions
    assert ort.RUNTIMES["cuda"].missing(0) == ""
    machine.setattr(ort, "_find_missing_library", lambda provider: "libnvinfer.so.10" * (provider == ort.TENSORRT))
    assert ort.RUNTIMES["tensorrt"].missing(0) == "libnvinfer.so.10"
    assert ort.RUNTIMES["cuda"].missing(0) == ""
    machine.setattr(onnxruntime, "get_available_providers", lambda: [ort.CPU])
    installed = {"onnxruntime": "1.31.1"}
    machine.setattr(ort.machine, "find_version", lambda package: "1.0" if package in installed else None)
    assert ort.RUNTIMES["cuda"].missing(0) == (
        "this onnxruntime was built without it: install one of the extras cuda12 and cuda13 (docs/install.md)"
    )
    installed["onnxruntime-gpu"] = "1.31.1"
    assert ort.RUNTIMES["cuda"].missing(0) == (
        "onnxruntime and onnxruntime-gpu are both installed, and one has replaced files of the other: pip uninstall "
        "onnxruntime onnxruntime-gpu, then install one of the extras cuda12 and cuda13 (docs/install.md)"
    )
    machine.setattr(cuda, "query_driver", lambda: Driver((13, 0), fault="CUDA error 803: mismatch"))
    assert ort.RUNTIMES["cuda"].missing(0) == "the CUDA driver does not work: CUDA error 803: mismatch"
    machine.setattr(cuda, "query_driver", lambda: None)
    assert ort.RUNTIMES["cuda"].missing(0) == NO_DEVICE
    assert ort.RUNTIMES["cpu"].missing(0) == ""


@pytest.mark.usefixtures("machine")
def test_a_fallback_names_the_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "works", False)
    monkeypatch.setattr(ort, "_find_missing_library", lambda _provider: "libcudnn.so.9: cannot open it")
    with pytest.raises(DeviceError, match=r"its libraries for cuda did not load: libcudnn\.so\.9: cannot open it"):
        ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of ONNX Runtime's libraries; it is empty."""
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.1")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    (tmp_path / "capi").mkdir()
    ort._preload_libraries.cache_clear()
    yield tmp_path / "capi"
    ort._preload_libraries.cache_clear()


def refuse(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """No library can be loaded."""

    def fail(_path: str, **_options: int) -> None:
        raise OSError(message)

    monkeypatch.setattr(ctypes, "CDLL", fail)


MISSING = {
    (ort.CUDA, "libcublasLt.so.13"): "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    (ort.TENSORRT, "libcudart.so.13"): "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    (ort.TENSORRT, "libnvinfer.so.10"): "pip install 'tensorrt-cu13==10.*'",
    (ort.TENSORRT, "libnvonnxparser.so.10"): "pip install 'tensorrt-cu13==10.*'",
}


@pytest.mark.parametrize(("provider", "missing"), MISSING)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    provider: str, missing: str, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, f"{missing}: cannot open shared object file: No such file or directory")
    assert ort._find_missing_library(provider) == ""  # there is no library that would need it
    for name in ("cuda", "tensorrt"):
        (libraries / f"libonnxruntime_providers_{name}.so").write_bytes(b"")
    assert ort._find_missing_library(provider) == f"{missing} is missing: {MISSING[provider, missing]}"
    refuse(monkeypatch, "undefined symbol: Provider_GetHost")  # of ONNX Runtime, which loads it first
    assert ort._find_missing_library(provider) == ""


def test_windows_has_other_names(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "WINDOWS", True)
    (libraries / "onnxruntime_providers_cuda.dll").write_bytes(b"")
    (libraries / "onnxruntime_providers_tensorrt.dll").write_bytes(b"MZ\0nvinfer_10.dll\0nvonnxparser_10.dll\0")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    refuse(monkeypatch, "Could not find module 'onnxruntime_providers_cuda.dll' (or one of its dependencies)")
    assert ort._read_tensorrt_name() == "nvinfer_10.dll"
    assert ort._find_missing_library(ort.TENSORRT) == "nvinfer_10.dll is missing: pip install 'tensorrt-cu13==10.*'"
    install = "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'"
    assert ort._find_missing_library(ort.CUDA) == f"onnxruntime_providers_cuda.dll is missing: {install}"
    ort._preload_libraries.cache_clear()
    words = "Failed to load cublasLt64_13.dll: not found\nFailed to load cufft64_12.dll: not found\nPlease follow ..."
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(words))
    assert ort._find_missing_library(ort.CUDA) == f"cublasLt64_13.dll, cufft64_12.dll is missing: {install}"


@pytest.mark.usefixtures("libraries")
def test_onnx_runtime_prints_nothing_about_libraries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcurand.so.10: not found"))
    assert ort._preload_libraries() == ("libcurand.so.10",)
    assert capsys.readouterr().out == ""
    ort._preload_libraries.cache_clear()

    def fail() -> None:
        raise RuntimeError("Invalid parameter of directory=torch/lib. The directory does not exist!")

    monkeypatch.setattr(onnxruntime, "preload_dlls", fail)
    assert ort._preload_libraries() == ()
    ort._preload_libraries.cache_clear()
    monkeypatch.delattr(onnxruntime, "preload_dlls")  # as before 1.21
    assert ort._preload_libraries() == ()


def test_the_package_of_tensorrt_loads_its_libraries(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / "tensorrt_libs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(libraries / 'loaded')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    ort._preload_libraries()
    monkeypatch.delitem(sys.modules, "tensorrt_libs")
    assert (libraries / "loaded").exists()


def test_a_fallback_of_an_old_version_is_an_error_with_its_reason(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 1.22 ignores `enable_fallback`, prints the reason and takes the CPU."""

    class OldSession(Session):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            print("*************** EP Error ***************")
            print("EP Error CUDA failure 209: no kernel image is available when using [('CUDAExecutionProvider', {})]")
            print("Falling back to ['CPUExecutionProvider'] and retrying.")

    machine.setattr(onnxruntime, "InferenceSession", OldSession)
    with pytest.raises(DeviceError) as caught:
        ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)
    assert caught.value.what == "the graph cannot be opened: CUDA failure 209: no kernel image is available"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("place", ["run", "buffers"])
@pytest.mark.parametrize("kind", [RuntimeException, RuntimeError])
def test_errors_of_a_device_are_explained(place: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    error = kind("CUDNN_STATUS_EXECUTION_FAILED: no kernel image is available\nsecond line")

    def fail(*_arguments: object) -> None:
        raise error

    if place == "run":
        graph = ort.RUNTIMES["cuda"].open(MODEL, 1, MANY)
        monkeypatch.setattr(Session, "run_with_iobinding", fail)
        what = "the graph does not run on device 1"
    else:
        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", fail)
        what = "there is no memory on device 1 for a batch of 64"
    with pytest.raises(DeviceError) as caught:
        (graph if place == "run" else ort.RUNTIMES["cuda"].open(MODEL, 1, MANY)).run(np.zeros((1, 2, 2, 3), np.uint8))
    assert str(caught.value) == (
        f"{what}: CUDNN_STATUS_EXECUTION_FAILED: no kernel image is available\n"
        "next: pass --device cpu, or --device auto for another runtime"
    )
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("machine")
def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)
    monkeypatch.setattr(Session, "run_with_iobinding", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        graph.run(np.zeros((1, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("module", "what"), [(None, "ONNX Runtime is not installed"), (SimpleNamespace(), "ONNX Runtime is damaged")]
)
def test_a_missing_package_is_an_error_in_words(module: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    spec = importlib.util.spec_from_file_location("fresh", ort.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ConfigError) as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert caught.value.what == what
    assert caught.value.hint.endswith(
        "pip install -e '.[cpu]', or '.[cuda12]' or '.[cuda13]' on a machine with a GPU (docs/install.md)"
    )


@pytest.mark.parametrize("command", ["export-onnx", "predict-onnx", "serve"])
def test_a_command_without_onnx_runtime_ends_with_one_message(command: str, workspace: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from invoke.program import Program; "
        "from ffdi.core import heartbeat; heartbeat.FIRST_SECONDS = 1000; "
        "Program().run(['invoke', *sys.argv[1:]])"
    )
    words = [command, "--experiment", "tiny"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "error: ONNX Runtime is not installed\n"
        "next: pip install -e '.[cpu]', or '.[cuda12]' or '.[cuda13]' on a machine with a GPU (docs/install.md)\n",
    )
    assert workspace.is_dir()

"""Which provider really runs: ONNX Runtime's answers are faked, for it falls back without a word."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from ffdi.core import cuda
from ffdi.core.cuda import Driver, Gpu
from ffdi.core.errors import DeviceError
from ffdi.inference import onnxruntime as ort
from ffdi.inference.backend import NO_DEVICE, Load

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
    """Fake of an InferenceSession; `works` decides whether the device starts."""

    works = True
    providers: list[Any] = []  # noqa: RUF012 (reset by each session)
    threads = 0
    runs = 0

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
        Session.runs += 1
        binding.y_pred.content = binding.images.content.mean((1, 2, 3)).astype(np.float32)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two devices on which ONNX Runtime starts."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort.TENSORRT, ort.CUDA, ort.CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", Value)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(cuda, "query_driver", lambda: Driver((13, 0), (GPU, GPU)))
    monkeypatch.setattr(ort, "_find_missing_library", lambda _provider: "")
    monkeypatch.setattr(Session, "works", True)
    monkeypatch.setattr(Session, "runs", 0)
    return monkeypatch


PROVIDERS = {
    "cuda": [(ort.CUDA, {"device_id": 1, "use_tf32": 0}), ort.CPU],
    "cuda-tf32": [(ort.CUDA, {"device_id": 1, "use_tf32": 1}), ort.CPU],
    "tensorrt": [
        (
            ort.TENSORRT,
            {
                "device_id": 1,
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": "folder/.tensorrt",
                "trt_timing_cache_enable": True,
            },
        ),
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


@pytest.mark.usefixtures("machine")
def test_a_device_has_buffers_of_one_size() -> None:
    graph = ort.RUNTIMES["cuda"].open(MODEL, 0, MANY)
    images = np.random.default_rng(0).integers(0, 256, (150, 2, 2, 3), np.uint8)
    assert np.array_equal(graph.run(images), images.mean((1, 2, 3)).astype(np.float32))
    assert Session.runs == 3


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
    machine.setattr(ort, "_find_missing_library", lambda provider: "libnvinfer.so.10" * (provider == ort.TENSORRT))
    assert ort.RUNTIMES["tensorrt"].missing(0) == "libnvinfer.so.10"
    assert ort.RUNTIMES["cuda"].missing(0) == ""
    machine.setattr(onnxruntime, "get_available_providers", lambda: [ort.CPU])
    assert ort.RUNTIMES["cuda"].missing(0) == "this onnxruntime was built without it"
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


def test_a_library_without_its_dependencies_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "capi").mkdir()
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    assert ort._find_missing_library(ort.TENSORRT) == ""  # such as on Windows
    library = tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so"
    library.write_bytes(b"")
    assert ort._find_missing_library(ort.TENSORRT) == ""  # ONNX Runtime will say what is wrong with it

    def fail(_path: str) -> None:
        raise OSError("libnvinfer.so.10: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert ort._find_missing_library(ort.TENSORRT).startswith("libnvinfer.so.10: cannot open shared object file")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("place", ["run", "buffers"])
def test_errors_of_a_device_are_explained(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeException("CUDNN_STATUS_EXECUTION_FAILED: no kernel image is available\nsecond line")

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

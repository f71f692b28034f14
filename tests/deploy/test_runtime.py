"""Which engine really runs: ONNX Runtime's answers are faked, for it falls back without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from ffdi.deploy import runtime
from ffdi.errors import ConfigError, DeviceError

MODEL = Path("model.onnx")


class Session:
    """Stands for an InferenceSession; `works` decides whether CUDA starts."""

    works = True
    asked: list[Any] = []  # noqa: RUF012 (reset by the fixture)

    def __init__(self, _model: str, options: onnxruntime.SessionOptions, providers: list[Any]) -> None:
        assert options.log_severity_level == 4
        Session.asked = providers

    def get_providers(self) -> list[str]:
        names = [one if isinstance(one, str) else one[0] for one in Session.asked]
        return names if Session.works else ["CPUExecutionProvider"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two CUDA devices on which ONNX Runtime starts."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [runtime.CUDA, runtime.CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(runtime, "_cuda_devices", lambda: 2)
    monkeypatch.setattr(Session, "works", True)
    return monkeypatch


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("asked", "index"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_cuda_runs_where_it_is(asked: str, index: int) -> None:
    opened = runtime.open_graph(MODEL, asked)
    assert (opened.provider, opened.why) == ("CUDAExecutionProvider", f"CUDA device {index}")
    assert Session.asked == [("CUDAExecutionProvider", {"device_id": index, "use_tf32": 0}), "CPUExecutionProvider"]


@pytest.mark.usefixtures("machine")
def test_the_cpu_runs_where_it_is_asked_for() -> None:
    assert runtime.open_graph(MODEL, "cpu").provider == "CPUExecutionProvider"
    assert Session.asked == ["CPUExecutionProvider"]


FALLBACKS = {
    "silent": "ONNX Runtime fell back to the CPU; its CUDA libraries did not load",
    "not built": "this onnxruntime was built without it",
    "no device": "there is no device",
    "one device": "there is no device 1, only 1",
}


def break_machine(machine: pytest.MonkeyPatch, way: str) -> None:
    """Takes CUDA away in one of the ways that happen."""
    if way == "silent":
        machine.setattr(Session, "works", False)
    elif way == "not built":
        machine.setattr(onnxruntime, "get_available_providers", lambda: [runtime.CPU])
    else:
        machine.setattr(runtime, "_cuda_devices", lambda: 0 if way == "no device" else 1)


@pytest.mark.parametrize("way", FALLBACKS)
def test_a_fall_back_is_an_error_when_cuda_was_asked_for(way: str, machine: pytest.MonkeyPatch) -> None:
    break_machine(machine, way)
    with pytest.raises(DeviceError) as caught:
        runtime.open_graph(MODEL, "cuda:1")
    assert str(caught.value) == (
        f"--device cuda:1: CUDA does not run here: {FALLBACKS[way]}\nnext: pass --device auto or --device cpu"
    )


@pytest.mark.parametrize("way", ["silent", "not built", "no device"])
def test_auto_says_that_it_fell_back_and_why(way: str, machine: pytest.MonkeyPatch) -> None:
    break_machine(machine, way)
    opened = runtime.open_graph(MODEL, "auto")
    assert (opened.provider, opened.why) == ("CPUExecutionProvider", f"the CPU; no CUDA: {FALLBACKS[way]}")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "tensorrt"])
def test_an_unknown_device_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runtime.open_graph(MODEL, asked)
    assert str(caught.value) == f"unknown device '{asked}': known: auto, cpu, cuda, cuda:N\nnext: pass --device auto"

"""The choice of the runtime: the requested one, or the fastest correct one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import ConfigError, DeviceError
from ffdi.inference import select
from ffdi.inference.backend import NO_DEVICE, Load, OpenGraph, Runtime
from ffdi.inference.bundle import Golden
from ffdi.inference.select import GoldenProof

MODEL, LOAD = Path("model.onnx"), Load(1000, 2, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3), np.uint8)


def scores(images: np.ndarray) -> np.ndarray:
    """float32 [B]."""
    return (images.mean((1, 2, 3)) / 255).astype(np.float32)


PROOF = GoldenProof(
    Golden([f"{number:02d}.jpg" for number in range(4)], IMAGES, scores(IMAGES)),
    {"cpu": 1e-5, "rough": 0.1, "refused": None},
)


def runtime(name: str, *, exact: bool, off: float = 0.0, seconds: float = 0.0, missing: str = "") -> Runtime:
    """A runtime with this error in its scores, and this delay."""

    def run(images: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return scores(images) + np.float32(off)

    def opened(_model: Path, index: int, load: Load) -> OpenGraph:
        return OpenGraph(name, f"{name} number {index}", f"why {name}", 4, load.streams, run)

    return Runtime(exact, name != "unoffered", name == "numbered", lambda _index: missing, opened)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Runtime]:
    """A machine on which two runtimes run, and one would not give the right scores."""
    there = {
        "absent": runtime("absent", exact=True, missing="it was not bought"),
        "wrong": runtime("wrong", exact=True, off=0.25),
        "refused": runtime("refused", exact=False),
        "unknown": runtime("unknown", exact=False),
        "unoffered": runtime("unoffered", exact=True),
        "cpu": runtime("cpu", exact=True, seconds=0.05),
        "rough": runtime("rough", exact=False, off=0.05, seconds=0.01),
        "numbered": runtime("numbered", exact=True, seconds=0.03),
    }
    monkeypatch.setattr(select, "RUNTIMES", there)
    return there


@pytest.mark.usefixtures("machine")
def test_auto_chooses_the_fastest_correct_runtime() -> None:
    graph = select.open_graph(MODEL, "auto", LOAD, PROOF)
    assert (graph.runtime, graph.provider) == ("rough", "rough number 0")
    results = graph.why.split("; ")[1].split(", ")
    assert results[0].startswith(
        "wrong refused: wrong does not give this export's scores on this machine: 4 of 4 golden"
    )
    assert [words.split()[0] for words in results[1:]] == ["cpu", "rough", "numbered"]


def test_auto_prints_no_comparison_of_one_runtime(machine: dict[str, Runtime]) -> None:
    for name in ("wrong", "rough", "numbered"):
        del machine[name]
    assert select.open_graph(MODEL, "auto", LOAD, PROOF).why == "why cpu"


def test_auto_says_why_a_gpu_is_not_used(machine: dict[str, Runtime]) -> None:
    for name in ("wrong", "rough"):
        del machine[name]
    machine["numbered"] = replace(machine["numbered"], missing=lambda _index: "the driver is too old")
    why = "why cpu; numbered not used: the driver is too old"
    assert select.open_graph(MODEL, "auto", LOAD, PROOF).why == why
    machine["numbered"] = replace(machine["numbered"], missing=lambda _index: NO_DEVICE)
    assert select.open_graph(MODEL, "auto", LOAD, PROOF).why == "why cpu"


def test_auto_lists_all_runtimes_if_none_is_correct(machine: dict[str, Runtime]) -> None:
    for name in ("cpu", "rough", "numbered"):
        del machine[name]
    with pytest.raises(DeviceError) as caught:
        select.open_graph(MODEL, "auto", LOAD, PROOF)
    assert str(caught.value) == (
        "no runtime of this machine gives this export's scores\n"
        "  wrong refused: wrong does not give this export's scores on this machine: 4 of 4 golden images differ by "
        "more than 1e-05\n"
        "next: export again on this machine"
    )


@pytest.mark.usefixtures("machine")
def test_the_requested_device_is_opened_with_its_number() -> None:
    assert select.open_graph(MODEL, "numbered:3", LOAD, PROOF).provider == "numbered number 3"
    assert select.open_graph(MODEL, "unoffered", LOAD, PROOF).provider == "unoffered number 0"


REFUSALS = {
    "absent": "--device absent: it does not run here: it was not bought",
    "refused": "--device refused: the export has not checked this graph on it; export again on a machine where it runs",
    "unknown": "--device unknown: the export has not checked this graph on it; export again on a machine where it runs",
}


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", REFUSALS)
def test_an_unusable_runtime_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        select.open_graph(MODEL, name, LOAD, PROOF)
    assert str(caught.value) == f"{REFUSALS[name]}\nnext: pass --device auto or --device cpu"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("device", ["gpu", "cpu:0", "numbered:x", "numbered:"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select.open_graph(MODEL, device, LOAD, PROOF)
    assert str(caught.value) == (
        f"unknown device '{device}': known: auto, absent, wrong, refused, unknown, unoffered, cpu, rough, numbered:N\n"
        "next: pass --device auto"
    )


@pytest.mark.usefixtures("machine")
def test_the_selftest_checks_every_runtime() -> None:
    verdicts = {one.runtime: one for one in select.measure_runtimes(MODEL, "auto", 2, PROOF)}
    assert verdicts["absent"].fault == "it does not run here: it was not bought"
    assert verdicts["wrong"].fault.startswith("wrong does not give this export's scores on this machine: 4 of 4")
    assert (verdicts["cpu"].provider, verdicts["cpu"].difference, verdicts["cpu"].fault) == ("cpu number 0", 0, "")
    assert verdicts["rough"].difference == pytest.approx(0.05, rel=1e-3)
    assert [one.runtime for one in select.measure_runtimes(MODEL, "numbered:1", 2, PROOF)] == ["numbered"]


@pytest.mark.usefixtures("machine")
def test_a_resumed_run_has_the_same_runtime() -> None:
    assert select.choose_device("auto", None) == "auto"
    assert select.choose_device("auto", "rough") == "rough"
    assert select.choose_device("cpu", "rough") == "cpu"
    assert select.choose_device("auto", "absent") == "auto"
    assert select.choose_device("auto", "of another version") == "auto"


def test_slow_runtimes_have_to_be_requested() -> None:
    assert [name for name, one in select.RUNTIMES.items() if not one.offered] == ["tensorrt"]
    assert [name for name, one in select.RUNTIMES.items() if one.exact] == ["cuda", "cpu", "openvino"]
    assert select.PLAIN in select.RUNTIMES
    assert select.RUNTIMES["cpu"].missing(0) == ""

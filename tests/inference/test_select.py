"""The choice of the runtime: the requested one, or the fastest correct one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ffdi.core.errors import ConfigError, DeviceError
from ffdi.experiments.export import ExportFolder
from ffdi.inference import select
from ffdi.inference.backend import DEFAULT, NO_DEVICE, Load, OpenGraph, Runtime, Setup
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

    def opened(_model: Path, index: int, load: Load, _setup: Setup = DEFAULT) -> OpenGraph:
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


class Tuned:
    """A runtime with options: each changes the seconds of a batch, or cannot be used."""

    def __init__(self, options: dict[str, float | str]) -> None:
        self.options, self.opened = options, list[tuple[str, ...]]()
        self.off = dict[str, float]()
        """Errors of the scores by option."""
        self.broken = False
        """After an error, nothing runs on the device any more."""
        self.seconds = 0.08
        """Of a batch without options."""
        self.now = 0.0
        """A clock that only the batches move."""

    def runtime(self, precision: str = "fp32", name: str = "tuned") -> Runtime:
        self.name = name
        refused = {"int8": "an int8 graph is for CPUs"}
        options = {precision: tuple(self.options)}
        return Runtime(True, True, True, lambda _index: "", self.open, refused, options)

    def open(self, _model: Path, index: int, load: Load, setup: Setup = DEFAULT) -> OpenGraph:
        self.opened.append(setup.options)
        seconds, off = self.seconds, 0.0
        for option in setup.options:
            change = self.options.get(option, 0.0)
            if isinstance(change, str):
                self.broken |= change == "the device is lost"
                raise DeviceError(change)
            seconds, off = seconds - change, off + self.off.get(option, 0)

        def run(images: np.ndarray) -> np.ndarray:
            if self.broken:
                raise DeviceError("the graph does not run")
            self.now += seconds
            return scores(images) + np.float32(off)

        return OpenGraph(self.name, f"number {index}", "why", 4, load.streams, run, setup.options or ("plain",))


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Tuned:
    """The only device of a machine; its options are set by the test."""
    made = Tuned({})
    monkeypatch.setattr(select, "RUNTIMES", {"tuned": made.runtime()})
    return made


def race(tuned: Tuned, monkeypatch: pytest.MonkeyPatch, **options: float | str) -> OpenGraph:
    tuned.options = options
    monkeypatch.setattr(select, "time", SimpleNamespace(perf_counter=lambda: tuned.now))
    monkeypatch.setattr(select, "RUNTIMES", {"tuned": tuned.runtime()})
    return select.open_graph(MODEL, "tuned:1", LOAD, PROOF)


def test_the_fastest_options_are_kept(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = race(tuned, monkeypatch, wide=0.03, slow=-0.05, late=0.01)
    assert (graph.options, graph.device, graph.provider) == (("wide", "late"), "tuned+wide+late", "number 1")
    assert tuned.opened == [(), ("wide",), ("wide", "slow"), ("wide", "late")]
    assert graph.why == (
        "why, wide+late (plain 100 images/s, wide 160 images/s, wide+slow 80 images/s, wide+late 200 images/s)"
    )


def test_no_option_is_kept_if_none_is_faster(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    assert race(tuned, monkeypatch, slow=-0.02).device == "tuned+plain"


def test_an_option_with_other_scores_or_an_error_is_refused(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.off = {"rough": 0.01}
    graph = race(tuned, monkeypatch, rough=0.04, graph="CUDA error 900: stream is capturing", wide=0.02)
    assert graph.device == "tuned+wide"
    assert "rough refused: tuned does not give this export's scores on this machine: 4 of 4 golden" in graph.why
    assert "graph refused: CUDA error 900: stream is capturing" in graph.why


def test_an_option_that_breaks_the_device_is_an_error(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="the graph does not run"):
        race(tuned, monkeypatch, graph="the device is lost")


@pytest.mark.parametrize("options", ["plain", "wide", "wide+late"])
def test_requested_options_are_opened_without_a_race(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    tuned.options = {"wide": -0.02, "late": 0.0}
    monkeypatch.setattr(select, "RUNTIMES", {"tuned": tuned.runtime()})
    graph = select.open_graph(MODEL, f"tuned+{options}", LOAD, PROOF)
    assert tuned.opened == [tuple(options.split("+"))]
    assert (graph.device, graph.why) == (f"tuned+{options}", "why")


def test_auto_tries_only_the_options_of_the_fastest_runtime(
    machine: dict[str, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Tuned({"wide": 0.01}), Tuned({"wide": 0.01})
    second.seconds = 0.06
    for name in list(machine):
        del machine[name]
    machine["first"], machine["second"] = first.runtime(name="first"), second.runtime(name="second")
    monkeypatch.setattr(select, "time", SimpleNamespace(perf_counter=lambda: first.now + second.now))
    graph = select.open_graph(MODEL, "auto", LOAD, PROOF)
    assert (first.opened, second.opened) == ([()], [(), ("wide",)])
    assert graph.device == "second+wide"
    assert graph.why == ("why, wide (plain 133 images/s, wide 160 images/s); first 100 images/s, second 133 images/s")


def test_auto_takes_the_next_runtime_if_an_option_breaks_the_device(machine: dict[str, Runtime]) -> None:
    tuned = Tuned({"graph": "the device is lost"})
    tuned.seconds = 0.0
    for name in ("wrong", "rough", "numbered"):
        del machine[name]
    machine["tuned"] = tuned.runtime()
    graph = select.open_graph(MODEL, "auto", LOAD, PROOF)
    assert graph.runtime == "cpu"
    assert "tuned refused: the graph does not run" in graph.why


def test_an_option_for_graphs_of_another_precision_is_refused(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.options = {"wide": 0.0}
    monkeypatch.setattr(select, "RUNTIMES", {"tuned": tuned.runtime("fp16")})
    with pytest.raises(DeviceError) as caught:
        select.open_graph(MODEL, "tuned+wide", LOAD, PROOF)
    assert caught.value.what == "--device tuned+wide: wide is no option for a graph of fp32"
    half = replace(PROOF, setup=Setup("fp16"))
    assert select.open_graph(MODEL, "tuned+wide", LOAD, half).device == "tuned+wide"


def test_a_graph_of_int8_is_not_offered_to_a_gpu(machine: dict[str, Runtime]) -> None:
    machine["tuned"] = Tuned({}).runtime()
    int8 = replace(PROOF, setup=Setup("int8"))
    with pytest.raises(DeviceError) as caught:
        select.open_graph(MODEL, "tuned", LOAD, int8)
    assert caught.value.what == "--device tuned: an int8 graph is for CPUs"
    graph = select.open_graph(MODEL, "auto", LOAD, int8)
    assert graph.runtime == "rough"
    assert "tuned not used: an int8 graph is for CPUs" in graph.why
    assert {one.runtime: one.fault for one in select.measure_runtimes(MODEL, "auto", 2, int8)}["tuned"] == (
        "an int8 graph is for CPUs"
    )


def test_auto_gives_each_reason_once(machine: dict[str, Runtime]) -> None:
    for name in ("wrong", "rough"):
        del machine[name]
    machine["numbered"] = machine["other"] = replace(machine["numbered"], missing=lambda _index: "no driver")
    assert select.open_graph(MODEL, "auto", LOAD, PROOF).why == "why cpu; numbered, other not used: no driver"


def test_the_precision_is_read_from_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select.bundle, "read_golden", lambda *_: PROOF.golden)
    described = {"runtimes": {"cpu": {"limit": 0.1}}, "input": {"shape": ["batch", 2, 2, 3], "framing": "squash"}}
    for content, precision in (({}, "fp32"), ({"precision": "fp16"}, "fp16"), ({"precision": "int8+fp32"}, "int8")):
        proof = select.make_proof(ExportFolder(tmp_path), {**described, **content}, tmp_path / "engines")
        assert proof.setup == Setup(precision, engines=tmp_path / "engines")


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
@pytest.mark.parametrize("device", ["gpu", "cpu:0", "numbered:x", "numbered:", "cpu+plain", "numbered+wide:0"])
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
    assert select.choose_device("unknown", "rough") == "unknown"


def test_a_resumed_run_has_the_same_options(machine: dict[str, Runtime]) -> None:
    machine["tuned"] = Tuned({"wide": 0.0}).runtime()
    assert select.choose_device("auto", "tuned+wide") == "tuned+wide"
    assert select.choose_device("tuned", "tuned+wide") == "tuned+wide"
    assert select.choose_device("tuned:1", "tuned+wide") == "tuned+wide:1"
    assert select.choose_device("tuned+plain", "tuned+wide") == "tuned+plain"
    assert select.choose_device("numbered", "tuned+wide") == "numbered"
    assert select.choose_device("auto", "tuned+tall") == "auto"


def test_an_unknown_option_is_refused(machine: dict[str, Runtime]) -> None:
    machine["tuned"] = Tuned({"wide": 0.0}).runtime()
    assert select.parse_device("tuned+wide:2") == ("tuned", ("wide",), 2)
    with pytest.raises(ConfigError, match=r"unknown device 'tuned\+tall': known: auto, "):
        select.parse_device("tuned+tall")


def test_slow_runtimes_have_to_be_requested() -> None:
    assert [name for name, one in select.RUNTIMES.items() if not one.offered] == ["tensorrt"]
    assert [name for name, one in select.RUNTIMES.items() if one.exact] == ["cuda", "cpu", "openvino"]
    assert select.PLAIN in select.RUNTIMES
    assert select.RUNTIMES["cpu"].missing(0) == ""

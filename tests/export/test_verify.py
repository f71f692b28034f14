"""What every runtime has to show before a graph is published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.core.errors import ConfigError, DataError, DeviceError, ParityError
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.export import equivalence
from ffdi.export.equivalence import Candidate, EquivalenceCheck, RuntimeVerifier
from ffdi.inference import select
from ffdi.inference.backend import DEFAULT, Load, OpenGraph, Runtime, Setup

GRAPH = Candidate("fp32", Path("model.onnx"), Path("compared.onnx"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 8, 8, 3), np.uint8)


def scores(images: np.ndarray) -> np.ndarray:
    """float32 [B], spread out."""
    return ((images.mean((1, 2, 3)) - 100) / 55).clip(0, 1).astype(np.float32)


TARGET = (scores(PIXELS) + RNG.normal(0, 0.05, 60) > np.median(scores(PIXELS))).astype(np.int64)


def runtime(*, exact: bool, off: float = 0.0, noise: float = 0.0, fails: str = "") -> Runtime:
    """A runtime with this error in its scores, or that opens no graph."""

    def run(images: np.ndarray) -> np.ndarray:
        return scores(images) + np.float32(off) + np.random.default_rng(1).normal(0, noise, len(images))

    def opened(model: Path, _index: int, load: Load, _setup: Setup = DEFAULT) -> OpenGraph:
        if fails:
            raise DeviceError(fails)
        return OpenGraph("any", f"runs {model.name}", "", 4, load.streams, run)

    return Runtime(exact, True, False, lambda _index: "", opened)


@pytest.fixture
def trial(tmp_path: Path) -> RuntimeVerifier:
    """Sixty images, on which fp32 is nearly always right."""
    for number, pixels in enumerate(PIXELS):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    names = np.array([f"{number:02d}.png" for number in range(60)])
    table = Table("val", tmp_path, names, TARGET, None, tmp_path)
    check = EquivalenceCheck(table, scores(PIXELS).astype(np.float64), "y_pred", lambda found: found.astype(np.float64))
    real = PIXELS[:9]
    return RuntimeVerifier(ResizePolicy(8), True, real, scores(real), check, 2, DEFAULT)


def test_failed_runtimes_have_no_limit(trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {
        "cpu": runtime(exact=True, off=1e-6),
        "wrong": runtime(exact=True, off=0.01),
        "rough": runtime(exact=False, off=0.01),
        "noisy": runtime(exact=False, noise=0.3),
        "broken": runtime(exact=True, fails="its library is from another world"),
    }
    monkeypatch.setattr(select, "RUNTIMES", there)
    records = equivalence.verify_all(trial, GRAPH, list(there))
    assert records["cpu"]["limit"] == 1e-5
    assert records["cpu"]["provider"] == "runs model.onnx"
    assert "gate" not in records["cpu"]
    assert records["wrong"]["limit"] is None
    assert records["wrong"]["refused"] == "the exported graph on wrong differs from the networks by more than 1e-05"
    assert records["rough"]["limit"] == pytest.approx(0.02, rel=1e-3)
    assert records["rough"]["gate"]["auc"]["here"] == records["rough"]["gate"]["auc"]["fp32"]
    assert records["noisy"]["refused"] == "this graph on noisy loses too much against fp32 on 60 val images"
    assert records["noisy"]["limit"] is None
    assert records["broken"]["refused"] == "its library is from another world"


def test_a_runtime_that_returns_nan_is_refused_and_ends_no_export(
    trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": runtime(exact=True), "nan": runtime(exact=False, off=np.nan)})
    records = equivalence.verify_all(trial, GRAPH, ["cpu", "nan"])
    assert records["cpu"]["limit"] == 1e-5
    assert records["nan"] == {"refused": "this graph on nan gives scores that are not finite", "why": [], "limit": None}


def test_a_graph_that_fails_on_the_plain_runtime_is_refused(
    trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": runtime(exact=True, off=0.01)})
    with pytest.raises(ParityError):
        equivalence.verify_all(trial, GRAPH, ["cpu"])


def test_an_unreadable_check_image_is_an_error(trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial.equivalence.table.folder / "07.png").write_bytes(b"")
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": runtime(exact=True), "rough": runtime(exact=False)})
    with pytest.raises(DataError) as caught:
        equivalence.verify_all(trial, GRAPH, ["cpu", "rough"])
    assert str(caught.value) == (
        f"images of the equivalence check cannot be used\n  {trial.equivalence.table.folder}/07.png is empty"
    )


def candidates(*kinds: str) -> tuple[list[Callable[[], Candidate]], list[str]]:
    """A graph of each kind, and the kinds that were made."""
    made: list[str] = []

    def make(kind: str) -> Candidate:
        made.append(kind)
        return Candidate(kind, Path(f"{kind}.onnx"), Path(f"{kind}.onnx"))

    return [partial(make, kind) for kind in kinds], made


def noisy_in(*kinds: str, noise: float = 0.3) -> Runtime:
    """A runtime with random scores for graphs of some kinds."""
    good, bad = runtime(exact=False, noise=0.001), runtime(exact=False, noise=noise)
    return replace(good, open=lambda model, *rest: (bad if model.stem in kinds else good).open(model, *rest))


@pytest.mark.parametrize(
    ("cpu", "other", "kept"),
    [
        (noisy_in(), noisy_in(), "int8"),
        (noisy_in("int8"), noisy_in(), "int8+fp32"),
        (noisy_in(), noisy_in("int8"), "int8+fp32"),
        (noisy_in(), noisy_in("int8", "int8+fp32"), "int8+fp32"),
    ],
)
def test_the_first_graph_that_passes_everywhere_is_chosen_else_the_last(
    cpu: Runtime, other: Runtime, kept: str, trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": cpu, "other": other})
    attempts, made = candidates("int8", "int8+fp32")
    chosen, records = equivalence.verify_first(replace(trial, exact=False), attempts, ["cpu", "other"])
    assert chosen.kind == made[-1] == kept
    assert records["cpu"]["provider"] == f"runs {kept}.onnx"


def test_a_graph_that_fails_in_every_kind_is_refused(trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": noisy_in("int8", "int8+fp32")})
    attempts, made = candidates("int8", "int8+fp32")
    with pytest.raises(ParityError, match="loses too much against fp32"):
        equivalence.verify_first(replace(trial, exact=False), attempts, ["cpu"])
    assert made == ["int8", "int8+fp32"]


def test_requested_runtimes_and_the_plain_one_are_checked() -> None:
    assert equivalence.choose_runtimes("openvino", "fp32") == ["cpu", "openvino"]
    assert equivalence.choose_runtimes("openvino, cpu", "fp32") == ["cpu", "openvino"]
    assert equivalence.choose_runtimes(None, "fp32")[0] == "cpu"
    assert "openvino" in equivalence.choose_runtimes(None, "fp32")
    with pytest.raises(ConfigError):
        equivalence.choose_runtimes("cpu,gpu", "fp32")


def test_a_runtime_that_is_not_for_the_precision_is_refused_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = replace(runtime(exact=True), refused={"int8": "an int8 graph is for CPUs"})
    monkeypatch.setattr(select, "RUNTIMES", {"cpu": runtime(exact=True), "gpu": gpu})
    assert equivalence.choose_runtimes(None, "int8") == ["cpu"]
    assert equivalence.choose_runtimes("gpu", "fp16") == ["cpu", "gpu"]
    with pytest.raises(ConfigError) as caught:
        equivalence.choose_runtimes("gpu", "int8")
    assert str(caught.value) == "--runtimes gpu: an int8 graph is for CPUs\nnext: leave it out of --runtimes"


def test_candidates_are_opened_with_their_precision(trial: RuntimeVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    setups: list[Setup] = []
    plain = runtime(exact=True)

    def opened(model: Path, index: int, load: Load, setup: Setup = DEFAULT) -> OpenGraph:
        setups.append(setup)
        return plain.open(model, index, load)

    monkeypatch.setattr(select, "RUNTIMES", {"cpu": replace(plain, open=opened)})
    setup = Setup("fp16", engines=Path("engines"))
    replace(trial, exact=False, setup=setup).verify(GRAPH, "cpu")
    assert setups == [setup, setup]

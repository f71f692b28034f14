"""benchmarks/gpu.py: all of its steps at toy size on a CPU, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import PROJECT

SCRIPT = PROJECT / "benchmarks" / "gpu.py"
BACKBONES = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit")
FIGURES = {
    "env": ["python", "torch", "onnxruntime-gpu", "torch is built for CUDA", "device", "runtime cpu", "runtime cuda"],
    "bits": [
        *(f"{name}, deterministic, trained twice" for name in BACKBONES),
        *(f"{name}, resumes after step" for name in BACKBONES),
        *(f"{name}, deterministic, killed and resumed" for name in BACKBONES),
        "test_resnet, not deterministic, trained twice",
        *(f"{name}, speed deterministic / not" for name in BACKBONES),
        "the process that is killed",
    ],
    "sync": [
        "a planted wait is found",
        *("bf16", "fp16", "fp16, SAM", "fp16, micro-batches", "fp16, mixup and cutmix"),
    ],
    "oom": [
        *("images in a batch", "training", "training afterwards", "scoring, images in a part"),
        "scoring, largest difference from a small batch",
    ],
    "ranks": ["weights and optimizer after 10 steps", "plain, images/s", "DDP, images/s", "DDP / plain"],
    "train": [
        *(f"{name}, images/s" for name in ("resident batch", "decoded cache", "files", "timm")),
        *(f"{name} / resident batch" for name in ("decoded cache", "files", "timm")),
        "files / timm",
    ],
    "loader": [f"{source}, {number} workers, images/s" for source in ("files", "decoded cache") for number in (0, 2)],
    "export": ["cpu, accepted within", *(f"cpu, largest difference, batch {number}" for number in (1, 7, 32))],
    "infer": [
        "cpu, fp32, nodes on CPUExecutionProvider",
        *(f"cpu, {kind}, nodes elsewhere" for kind in ("fp32", "fp16")),
        *(f"cpu, {kind}, largest difference on 100 images" for kind in ("fp32", "fp16")),
        *(f"cpu, {kind}, ONNX Runtime / cpu, {kind}, torch" for kind in ("fp32", "fp16")),
    ],
}
"""What each step has to print."""


def test_every_step_is_rehearsed_and_prints_its_figures() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--cpu"], capture_output=True, text=True, check=False)
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fact for fact in facts if fact.get("ok") is False] == []
    assert done.returncode == 0, done.stderr
    assert all(fact["rehearsal"] for fact in facts)
    found = {step: {fact["figure"]: fact for fact in facts if fact["step"] == step} for step in FIGURES}
    assert {
        step: set(FIGURES[step]) - set(found[step]) for step in FIGURES if set(FIGURES[step]) - set(found[step])
    } == {}
    assert list(dict.fromkeys(fact["step"] for fact in facts)) == list(FIGURES)
    for fact in facts:
        if "low" in fact:
            assert 0 < fact["low"] <= fact["value"] <= fact["high"], fact
    for step in FIGURES:  # each table has each figure
        (table,) = re.findall(rf"^== {step} \(rehearsal on a CPU\)\n(.+?)\n\n", done.stderr, re.MULTILINE | re.DOTALL)
        assert all(figure in table for figure in found[step])
    assert "all is well: env, bits, sync, oom, ranks, train, loader, export, infer" in done.stderr
    assert found["bits"]["the process that is killed"]["value"] == "was ended by SIGKILL"
    assert found["infer"]["cpu, fp32, nodes on CPUExecutionProvider"]["value"] > 10


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setenv("PYTHONPATH", "")  # it is changed
    import gpu

    return gpu


def test_a_failed_step_does_not_stop_the_others(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []

    def measure(step: str, _cpu: bool, _root: Path) -> bool:
        steps.append(step)
        return step not in ("bits", "infer")

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--cpu"])
    assert gpu.main() == 1
    assert steps == list(FIGURES)
    assert capsys.readouterr().err == "failed: bits, infer\n"


def test_an_error_in_a_step_is_a_failed_fact_with_its_place(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not gpu.measure("nonsense", True, tmp_path)
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[0])["value"] == "KeyError: 'nonsense'"
    assert re.search(r"^FAILED  the step  KeyError: 'nonsense'; benchmarks/gpu_steps/run.py:\d+ ", captured.err, re.M)


def test_a_step_that_takes_too_long_is_ended(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not gpu.measure("env", True, tmp_path, seconds=0.01)
    *_, fault, seconds = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (fault["figure"], fault["value"], fault["ok"]) == ("the step", "took longer than 0 s", False)
    assert seconds["figure"] == "seconds"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "error: unknown step 'trian': did you mean 'train'?\n"),
        ([], "error: there is no CUDA device\nnext: python benchmarks/gpu.py --cpu rehearses on the CPU\n"),
    ],
)
def test_what_cannot_be_run_is_one_plain_error(
    gpu: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(gpu.cuda, "query_driver", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    assert gpu.main() == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


@pytest.mark.usefixtures("gpu")
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gpu_steps import run

    facts: list[run.Fact] = []
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "gpu_steps.scoring", raising=False)
    run.run_step(facts.append, "infer", True, tmp_path)
    assert facts == [
        {"step": "infer", "figure": "the step", "value": "the package onnxruntime is missing", "ok": False}
    ]

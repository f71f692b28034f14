"""The whole way on a CUDA device: `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from ffdi.inference import select
from tests.conftest import Invoke

pytestmark = pytest.mark.gpu


@pytest.fixture
def exported(workspace: Path, competition: Path, invoke: Invoke) -> Path:
    """An export of folds that were trained and submitted on the device, proven there."""
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--device", "cuda:0")
    assert answer.code == 0, answer.err
    assert "device: cuda:0" in answer.out
    assert invoke("ensemble-submit", "--experiment", "tiny", "--device", "cuda:0").code == 0
    answer = invoke("export-onnx", "--experiment", "tiny", "--runtimes", "cpu,cuda,cuda-tf32")
    assert answer.code == 0, answer.err
    return workspace / "exports" / "tiny"


def test_torch_and_onnx_agree(exported: Path, invoke: Invoke) -> None:
    record = json.loads((exported / "bundle.json").read_text())["runtimes"]["cuda"]
    assert record["provider"] == "CUDAExecutionProvider"
    assert max(record["largest_difference"].values()) <= 1e-5
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cuda:0")
    assert answer.code == 0, answer.err
    assert re.search(
        r"runs on: CUDAExecutionProvider \(ONNX Runtime, cuda device 0, (plain|graph) "
        r"\(plain \d+ images/s, graph (\d+ images/s|refused: .*)\)\)",
        answer.out,
    )
    scores = [pd.read_csv(exported / name) for name in ("submission.csv", "onnx_scores.csv")]
    assert (scores[0].y_pred - scores[1].y_pred).abs().max() <= 1e-5


@pytest.mark.usefixtures("exported")
def test_the_selftest_passes_and_auto_takes_a_runtime(invoke: Invoke) -> None:
    answer = invoke("predict-onnx", "--experiment", "tiny", "--selftest", "--device", "cuda:0")
    assert answer.code == 0, answer.err
    assert "cuda: passed: largest difference " in answer.out
    answer = invoke("predict-onnx", "--experiment", "tiny")
    assert answer.code == 0, answer.err
    assert "cuda " in answer.out  # it took part in the race


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("options", ["plain", "nhwc", "graph", "nhwc+graph"])
def test_a_graph_of_fp16_runs_with_each_option(invoke: Invoke, options: str) -> None:
    words = ["--experiment", "tiny", "--name", "half"]
    answer = invoke("export-onnx", *words, "--precision", "fp16", "--runtimes", "cpu,cuda")
    assert answer.code == 0, answer.err
    answer = invoke("predict-onnx", *words, "--device", f"cuda+{options}:0")
    assert answer.code == 0, answer.err
    assert "runs on: CUDAExecutionProvider (ONNX Runtime, cuda device 0)" in answer.out


@pytest.mark.usefixtures("exported")
def test_tensorrt_is_used_where_it_is_verified(workspace: Path, invoke: Invoke) -> None:
    if reason := select.RUNTIMES["tensorrt"].missing(0):
        pytest.skip(reason)
    answer = invoke("export-onnx", "--experiment", "tiny", "--runtimes", "cpu,tensorrt")
    assert answer.code == 0, answer.err
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "tensorrt:0")
    assert answer.code == 0, answer.err
    assert "runs on: TensorrtExecutionProvider" in answer.out
    engines = sorted((workspace / "data" / "engines").glob("*/*.engine"))
    assert engines
    assert invoke("predict-onnx", "--experiment", "tiny", "--device", "tensorrt:0").code == 0
    assert sorted((workspace / "data" / "engines").glob("*/*.engine")) == engines

"""The whole way on a CUDA device: `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Invoke


@pytest.mark.gpu
def test_torch_and_onnx_agree_on_cuda(workspace: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--device", "cuda:0")
    assert answer.code == 0, answer.err
    assert "device: cuda:0" in answer.out
    assert invoke("ensemble-submit", "--experiment", "tiny", "--device", "cuda:0").code == 0
    assert invoke("export-onnx", "--experiment", "tiny").code == 0
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cuda:0")
    assert answer.code == 0, answer.err
    assert "runs on: CUDAExecutionProvider" in answer.out
    scores = [pd.read_csv(workspace / "exports" / "tiny" / name) for name in ("submission.csv", "onnx_scores.csv")]
    assert (scores[0].y_pred - scores[1].y_pred).abs().max() <= 1e-4

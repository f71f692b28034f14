"""All folds of all experiments in one ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ffdi.deploy.bundle import INPUT, OUTPUT
from ffdi.scoring.calibration import BLEND, Calibration
from ffdi.scoring.ensemble import Combination


class Graph(nn.Module):
    """uint8 [N, S, S, 3] RGB -> y_pred float32 [N]: members side by side, combined and calibrated as a blend does.

    Args:
        members: networks, uint8 [N, S, S, 3] -> logit [N].
        weights: float [M], how much each member counts.
        combination: pointwise; its space and bias.
        calibration: what the combined score goes through.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: np.ndarray,
        combination: Combination,
        calibration: Calibration,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.space, self.bias = combination.space, combination.bias
        self.calibrated = _Calibrated(calibration)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32).unsqueeze(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([member(images) for member in self.members])
        if self.space == "probability":
            return self.calibrated((self.weights * torch.sigmoid(logits)).sum(0))
        return self.calibrated(torch.sigmoid((self.weights * logits).sum(0) + self.bias))

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, 3] -> y_pred float32 [N], in numpy."""
        with torch.inference_mode():
            return self(torch.from_numpy(images)).numpy()


class _Calibrated(nn.Module):
    """`Calibration.apply` for a graph: y_pred float32 [N] -> float32 [N]."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.kind, self.temperature = calibration.kind, calibration.temperature
        self.least, knots, slopes = calibration.pieces()
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float32))
        self.register_buffer("slopes", torch.tensor(slopes, dtype=torch.float32))

    def forward(self, y_pred: torch.Tensor) -> torch.Tensor:
        if self.kind == "temperature":
            share = BLEND["temperature"]
            logit = torch.log(y_pred) - torch.log1p(-y_pred)
            y_pred = (1 - share) * torch.sigmoid(logit / self.temperature) + share * y_pred
        elif self.kind == "isotonic":
            y_pred = self.least + (torch.relu(y_pred.unsqueeze(1) - self.knots) * self.slopes).sum(1)
        return y_pred.clamp(0, 1)


def to_onnx(graph: Graph, size: int, path: Path, metadata: dict[str, str]) -> None:
    """Writes a graph as one file, with any number of images as its batch.

    Args:
        graph: on the CPU, in evaluation mode.
        size: edge length of the images.
        path: the file.
        metadata: words that travel inside the file.
    """
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)  # of one image the batch would be taken for fixed
    with _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own lines from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

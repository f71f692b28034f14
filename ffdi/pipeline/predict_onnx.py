"""Scores images with an exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffdi import console, publish
from ffdi.pipeline import screens, sources
from ffdi.scoring import scorecard, scores
from ffdi.store.workspace import Workspace


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    images: str | None,
    data: str | None,
    split: str,
    output: str | None,
    device: str,
    name: str | None,
) -> None:
    """Scores images with an exported graph, without torch."""
    from ffdi.deploy import bundle, infer, runtime

    export = workspace.export(names, name)
    described = bundle.read(export)
    table = sources.images(workspace, names, images, data, split)
    path = Path(output) if output else export.scores_path
    publish.check_writable(path)
    graph = runtime.open_graph(export.model_path, device)
    console.title(f"predict-onnx {export.name}: {len(table)} images from {table.folder}")
    console.say(f"runs on: {graph.provider} ({graph.why})")
    parts = []
    with console.bar("scoring", len(table)) as bar:
        for part in infer.scores(table, described["input"]["shape"][1], graph):
            parts.append(part)
            bar.advance(len(part))
    y_pred = np.concatenate(parts)
    publish.text(path, scores.to_csv(table.img_name, y_pred))
    if table.target is not None and table.both_classes:
        screens.show_scores(
            f"exact score on the {table.split} split", [("ONNX", scorecard.glance(table.target, y_pred))]
        )
    console.say(f"written: {path} ({len(table)} rows)")

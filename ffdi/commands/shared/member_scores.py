"""Scores images with the networks of trained experiments, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffdi.core import console
from ffdi.core.errors import format_count
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble, Member

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device


def list_fold_members(ensemble: Ensemble) -> list[list[Member]]:
    """For each fold, its network of each experiment, also where a network on all images scores new ones."""
    found: list[list[Member]] = []
    for experiment in ensemble.experiments:
        config, identity = experiment.load_training()
        folders = experiment.list_finished_folds(config.folds.k, identity)
        found.append([Member(experiment, config, folder) for folder in folders])
    return [list(part) for part in zip(*found, strict=True)]


def predict_logits(members: Sequence[Member], resize_policy: ResizePolicy, table: Table, device: Device) -> np.ndarray:
    """Scores each image of a table with each network: float32 [M, N].

    Args:
        members: the networks.
        resize_policy: of the images; each is decoded once, in the same way as for the exported graph.
        table: the images.
        device: that computes.
    """
    from ffdi.models import detector
    from ffdi.training import fold, predict

    largest = max((member.config for member in members), key=lambda config: config.model.size)
    label = f"scoring {table.split}".rstrip() + f" with {format_count(len(members), 'network')}"
    with console.bar(label, len(table), unit="images") as bar:
        networks = [device.prepare(detector.load_scorer(member, resize_policy.size)) for member in members]
        return predict.predict_logits(networks, fold.make_eval_batches(table, largest, device), device, bar.advance)

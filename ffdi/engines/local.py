"""Runs folds on this machine, one after the other on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ffdi.store.fold import FoldFolder
from ffdi.training import fold
from ffdi.training.device import Device


def run(plan: fold.Plan, folders: Sequence[FoldFolder], device: Device) -> Iterator[tuple[FoldFolder, fold.Event]]:
    """Trains and publishes each fold in turn, and yields what happens in it."""
    for folder in folders:
        for event in fold.train(plan, folder, device):
            yield folder, event

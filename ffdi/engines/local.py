"""Runs folds on this machine: one after the other in this process, or several at once in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing import connection

from ffdi import stopping
from ffdi.engines import process
from ffdi.engines.process import Training
from ffdi.store.fold import FoldFolder
from ffdi.training import fold
from ffdi.training.device import Device

LOOK = 0.5
"""Seconds between two looks whether this process is to end."""

Told = tuple[FoldFolder, fold.Event]


def run(plan: fold.Plan, folders: Sequence[FoldFolder], devices: Sequence[Sequence[Device]]) -> Iterator[Told]:
    """Trains and publishes folds, as many at once as there are devices, and yields what happens in them.

    Args:
        plan: what the folds share.
        folders: those to be trained.
        devices: of each fold at a time; with a single one nothing leaves this process.

    Raises:
        FFDIError: what a fold has raised; the others have written down where they are.
        Stopped: where this process is to end; the same call goes on there.
    """
    if len(devices) == len(devices[0]) == 1:
        return _in_turn(plan, folders, devices[0][0])
    return _at_once(plan, folders, devices)


def _in_turn(plan: fold.Plan, folders: Sequence[FoldFolder], device: Device) -> Iterator[Told]:
    for folder in folders:
        for event in fold.train(plan, folder, device):
            yield folder, event


def _at_once(plan: fold.Plan, folders: Sequence[FoldFolder], devices: Sequence[Sequence[Device]]) -> Iterator[Told]:
    waiting, free, running = list(folders), list(devices), list[tuple[Training, Sequence[Device]]]()
    try:
        while waiting or running:
            while waiting and free:
                running.append((process.start(plan, waiting.pop(0), free[0]), free.pop(0)))
            stopping.check()
            heard = {pipe: one for one in running for pipe in one[0].pipes}
            for pipe in connection.wait(heard, LOOK):
                training, its_devices = one = heard[pipe]
                if training.ended:  # which was heard just now
                    continue
                if (event := training.told(pipe)) is not None:
                    yield training.folder, event
                elif training.ended:
                    running.remove(one)
                    training.end(time.monotonic() + process.PATIENCE)
                    free.append(its_devices)
    finally:
        _end([training for training, _ in running])


def _end(trainings: Sequence[Training]) -> None:
    """Lets those that run write down where they are."""
    for training in trainings:
        training.ask_to_end()
    until = time.monotonic() + process.PATIENCE
    with ExitStack() as all_of_them:  # where one is not waited for, since somebody is impatient, none is
        for training in trainings:
            all_of_them.callback(training.end, until)

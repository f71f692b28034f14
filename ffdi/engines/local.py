"""Runs jobs on this machine: one after the other in this process, or several at once in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import connection

from ffdi.core import signals
from ffdi.core.errors import FFDIError
from ffdi.engines import process
from ffdi.engines.job import Ask, Ended, Failed, Hearing
from ffdi.engines.process import Training
from ffdi.training import fold
from ffdi.training.runtime.device import Device

LOOK = 0.5
"""Seconds between two looks whether this process is to end."""


def run(ask: Ask, devices: Sequence[Sequence[Device]]) -> Hearing:
    """Trains and publishes folds, as many at once as there are devices for, and yields what happens in them.

    Args:
        ask: for what is to be done.
        devices: of each job at a time; with a single one nothing leaves this process.

    Raises:
        Stopped: where this process is to end; the same jobs go on there. So it is where the iterator is closed.
    """
    return _in_turn(ask, devices[0][0]) if len(devices) == len(devices[0]) == 1 else _at_once(ask, devices)


def _in_turn(ask: Ask, device: Device) -> Hearing:
    while (job := ask()) is not None:
        try:
            for event in fold.train(job.plan, job.folder, replace(device, precision=job.precision), job.until):
                yield job, event
        except FFDIError as error:
            yield job, Failed(error)
        else:
            yield job, Ended()


def _at_once(ask: Ask, devices: Sequence[Sequence[Device]]) -> Hearing:
    free, running = list(devices), list[tuple[Training, Sequence[Device]]]()
    try:
        while True:
            while free and (job := ask()) is not None:
                given = [replace(device, precision=job.precision) for device in free[0]]
                running.append((process.start_process(job, given), free.pop(0)))
            if not running:
                return
            signals.raise_if_interrupted()
            heard = {pipe: one for one in running for pipe in one[0].pipes}
            for pipe in process.ready_pipes(heard, LOOK):
                training, its_devices = one = heard[pipe]
                if one not in running or training.ended:  # which was heard just now
                    continue
                event = _told(training, pipe)
                if isinstance(event, Failed) or training.ended:
                    running.remove(one)
                    training.end(time.monotonic() + process.PATIENCE)
                    free.append(its_devices)
                if event is not None:
                    yield training.job, event
    finally:
        _end([training for training, _ in running])


def _told(training: Training, pipe: connection.Connection) -> fold.Event | Failed | Ended | None:
    """What was said last through a pipe; None where it was only that a process which does not lead has ended."""
    try:
        event = training.told(pipe)
    except FFDIError as error:
        return Failed(error)
    return Ended() if event is None and training.ended else event


def _end(trainings: Sequence[Training]) -> None:
    """Lets those that run write down where they are."""
    for training in trainings:
        training.ask_to_end()
    until = time.monotonic() + process.PATIENCE
    with ExitStack() as all_of_them:  # where one is not waited for, since somebody is impatient, none is
        for training in trainings:
            all_of_them.callback(training.end, until)

"""The interface of an engine: it takes fold jobs from a callable and yields their events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from ffdi.core.errors import FFDIError
from ffdi.training.fold import FoldEvent, FoldJob


class JobFailure(NamedTuple):
    """A job has failed; its checkpoints stay."""

    error: FFDIError


class JobEnd(NamedTuple):
    """A job is complete."""


NextJob = Callable[[], FoldJob | None]
"""Returns the next job; None while there is none, and at the end. An engine calls it whenever a device is free."""
JobEvent = tuple[FoldJob, FoldEvent | JobFailure | JobEnd]
JobEvents = Generator[JobEvent, None, None]
"""The events of all jobs; `close` ends the jobs that run."""

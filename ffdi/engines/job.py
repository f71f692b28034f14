"""What engines are given to do, and what is heard of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.core.errors import FFDIError
from ffdi.experiments.fold import FoldFolder
from ffdi.training import fold


@dataclass(frozen=True, eq=False)
class Job:
    """A fold that is to be trained and published.

    Attributes:
        precision: what its training multiplies in, where that is not for another machine to choose.
        until: epochs after which it is broken off, with a checkpoint; None trains it to its end.
    """

    plan: fold.Plan
    folder: FoldFolder
    precision: str
    until: int | None = None


class Failed(NamedTuple):
    """A job came to nothing; what its training had written down stays."""

    error: FFDIError


class Ended(NamedTuple):
    """A job is done."""


Ask = Callable[[], Job | None]
"""Gives the next job wherever there is room for one; None while there is none, and at the end."""
Heard = tuple[Job, fold.Event | Failed | Ended]
Hearing = Generator[Heard, None, None]
"""What happens in jobs; closed, it ends those that run."""

"""Work that is done one piece at a time, in a thread that nobody has to wait for."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[], None]
"""Raises Dropped where nobody waits for the work any more; to be called between its parts."""
Work = Callable[[Check], Any]
LEAVING = 0.2
"""Seconds that the piece which is being done has at the end."""


class Cancelled(Exception):
    """Nobody waits for this piece of work."""


class Full(Exception):
    """As much is waiting as may."""


@dataclass(frozen=True, eq=False)
class Job:
    """A piece of work.

    Attributes:
        work: what is to be done.
        result: what it comes to.
        dropped: set where nobody waits for it.
    """

    work: Work
    result: Future[Any] = field(default_factory=Future)
    dropped: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """As `Check`."""
        if self.dropped.is_set():
            raise Cancelled


class Worker:
    """Does what it is given, in order.

    Its thread is a daemon: a pool's threads are joined at the interpreter's end, however long what they do takes.

    Args:
        most: pieces that may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._doing: Job | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return self._ended or len(self._jobs) >= self._most

    def submit(self, work: Work) -> Job:
        """Puts a piece of work behind all others.

        Raises:
            Full: too many are waiting, or this is the end.
        """
        with self._changed:
            if self.is_full:
                raise Full
            self._jobs.append(job := Job(work))
            self._changed.notify()
        return job

    def withdraw(self, job: Job) -> None:
        """Drops a piece that waits; one that is being done goes on."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                job.result.cancel()

    def drop(self, job: Job) -> None:
        """Drops a piece that waits; one that is being done ends at its next check."""
        job.dropped.set()
        self.withdraw(job)

    def end(self) -> None:
        """Drops everything."""
        with self._changed:
            self._ended = True
            jobs = [*self._jobs, *([self._doing] if self._doing else [])]
            self._changed.notify()
        for job in jobs:
            self.drop(job)

    def leave(self) -> None:
        """Waits a little for the thread, after `end`; where it is in a long call of a library, the interpreter's end
        will not be in peace: what that library clears away then is in use. So the process ends before that."""
        self._thread.join(LEAVING)
        if self._thread.is_alive():
            atexit.register(_leave_at_once)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.check()
                job.result.set_result(job.work(job.check))
            except BaseException as error:
                job.result.set_exception(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._doing = None
            self._changed.wait_for(lambda: self._jobs or self._ended)
            if self._ended:
                return None
            job = self._doing = self._jobs.popleft()
            job.result.set_running_or_notify_cancel()
            return job


def _leave_at_once() -> None:
    """By now all has been said and written; only the exit status of a later verb of the same command is lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

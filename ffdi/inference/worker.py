"""A queue of jobs, which run one at a time in a daemon thread."""

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
"""Raises Cancelled if the job was dropped; a job calls it between its steps."""
Work = Callable[[Check], Any]
JOIN_SECONDS = 0.2
"""Seconds for the running job when the worker ends."""


class Cancelled(Exception):
    """The job was dropped."""


class Full(Exception):
    """The queue is full, or the worker has ended."""


@dataclass(frozen=True, eq=False)
class Job:
    """A job.

    Attributes:
        work: its function.
        result: the result of the function.
        dropped: set if the result is not needed any more.
    """

    work: Work
    result: Future[Any] = field(default_factory=Future)
    dropped: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self.dropped.is_set():
            raise Cancelled


class Worker:
    """Runs jobs in order.

    Its thread is a daemon, because the interpreter waits at its end for the threads of a pool, even in long jobs.

    Args:
        most: limit of waiting jobs.
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
        return self._ended or len(self._jobs) >= self._most

    def submit(self, work: Work) -> Job:
        """Adds a job to the end of the queue.

        Raises:
            Full: the queue is full, or the worker has ended.
        """
        with self._changed:
            if self.is_full:
                raise Full
            self._jobs.append(job := Job(work))
            self._changed.notify()
        return job

    def withdraw(self, job: Job) -> None:
        """Removes a waiting job; a running job continues."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                job.result.cancel()

    def drop(self, job: Job) -> None:
        """Removes a waiting job; a running job ends at its next check."""
        job.dropped.set()
        self.withdraw(job)

    def end(self) -> None:
        """Drops all jobs, and accepts no more."""
        with self._changed:
            self._ended = True
            jobs = [*self._jobs, *([self._doing] if self._doing else [])]
            self._changed.notify()
        for job in jobs:
            self.drop(job)

    def leave(self) -> None:
        """Waits a short time for the thread, after `end`.

        A long call of a library still uses objects that the library frees at the end of the interpreter. Then the
        process exits before that.
        """
        self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            atexit.register(_exit_now)

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


def _exit_now() -> None:
    """Exits after all output; only the exit status of a later task of the same invoke command is lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

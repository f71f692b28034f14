"""Signs of life of a command that prints nothing for a while: at its start, and every half a minute after that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS, SILENT_SECONDS = 1.0, 29.0
"""Silence after which a command says that it is loading, and that it works."""
LONG_SECONDS = 60.0
"""A command that takes longer says so at its end."""
CHECK_SECONDS = 0.25
LOADING = "loading libraries, which takes some seconds"


class Heart:
    """Knows when a command has printed last."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()
        self.printed = False

    def beat(self) -> None:
        """Notes that something is printed now."""
        self.last, self.printed = time.monotonic(), True

    @property
    def seconds(self) -> float:
        """Since the start of the command."""
        return time.monotonic() - self.start

    def is_due(self) -> bool:
        """Whether a sign of life is due."""
        return time.monotonic() - self.last > (SILENT_SECONDS if self.printed else FIRST_SECONDS)


@contextmanager
def watch(heart: Heart, say: Callable[[], None]) -> Iterator[None]:
    """Inside, a thread calls `say`, which prints, whenever a sign of life is due."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(CHECK_SECONDS):
            if heart.is_due():
                say()
                heart.beat()

    thread = threading.Thread(target=run, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""Leaving in good order: Ctrl-C, SIGTERM and the end of the time are heard where nothing can be lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ffdi.core.errors import ConfigError

OUT_OF_TIME = 75
"""Exit status at the end of --max-time: 'try again' (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(BaseException):
    """This process is to end. No Exception, so that nobody takes it for a fault.

    Args:
        why: what happened, in a few words.
        code: the exit status: 128 and the signal's number, or OUT_OF_TIME.
    """

    def __init__(self, why: str, code: int) -> None:
        self.why, self.code = why, code
        super().__init__(why)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.code)


class _Wish:
    """What was asked for while somebody listened."""

    def __init__(self, end: float | None) -> None:
        self.stopped: Interrupted | None = None
        self._end = end

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """A signal's handler: once; the next one of its kind does what it did before."""
        self.stopped = Interrupted(NAMES[number], 128 + number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def check(self) -> None:
        """Raises what was asked for."""
        if self.stopped is None and self._end is not None and time.monotonic() >= self._end:
            self.stopped = Interrupted("--max-time is over", OUT_OF_TIME)
        if self.stopped is not None:
            raise self.stopped


def parse_max_time(max_time: str | None) -> float | None:
    """When the time that was given is over, by the monotonic clock; from '90m', '8.5h' or '3600s'.

    Raises:
        ConfigError: it says no time.
    """
    if max_time is None:
        return None
    number, unit = max_time[:-1], max_time[-1:]
    with suppress(KeyError, ValueError):
        if (seconds := float(number) * {"s": 1, "m": 60, "h": 3600}[unit]) > 0:
            return time.monotonic() + seconds
    raise ConfigError(f"--max-time {max_time}: no time", hint="pass --max-time 90m, 8.5h or 3600s")


@contextmanager
def handle_signals(end: float | None = None, *, interrupts: bool = True) -> Iterator[None]:
    """Inside, a first signal or the end of the time is only noted: the next `raise_if_interrupted` raises.

    A second signal ends the process at once.

    Args:
        end: when the time is over, by `time.monotonic`; None never.
        interrupts: whether Ctrl-C is heard.
    """
    global _wish
    wish = _wish = _Wish(end)
    heard = [number for number in NAMES if interrupts or number != signal.SIGINT]
    before = {number: signal.signal(number, wish.hear) for number in heard}
    try:
        yield
    finally:
        _wish = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def block_signals(*, at_first: bool = False) -> Iterator[None]:
    """Processes that are begun inside do not hear Ctrl-C, which reaches all that a terminal runs: this one decides.
    `at_first` SIGTERM waits too, in them and in those that they begin, each until it is `unblock_signals`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]) if at_first else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)


def unblock_signals() -> None:
    """This process hears SIGTERM from now on, also one that has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def signal_name(number: int) -> str:
    """As 'SIGKILL'."""
    return signal.Signals(number).name


def exit_with_parent() -> None:
    """Ends this process the moment its parent dies, whatever it does: what the parent had locked is free then, and
    nobody else may write. torch's own watch in its loader's workers looks every 5 s, and where they come from a
    forkserver, as from Python 3.14 on, it watches that one, and they stay for ever."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def raise_if_interrupted() -> None:
    """To be called where a process may end and nothing is lost.

    Raises:
        Stopped: somebody wants it to end.
    """
    if _wish is not None:
        _wish.check()


NAMES: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_wish: _Wish | None = None

"""Clean stops: Ctrl-C, SIGTERM and the end of --max-time take effect at safe points, where no work is lost."""

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
    """This process has to end. A BaseException, because it is no fault.

    Args:
        why: "Ctrl-C", "SIGTERM" or "--max-time is over".
        code: the exit status: 128 plus the signal's number, or OUT_OF_TIME.
    """

    def __init__(self, why: str, code: int) -> None:
        self.why, self.code = why, code
        super().__init__(why)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.code)


class _StopRequest:
    """A signal or the end of the time, recorded until the next safe point."""

    def __init__(self, end: float | None) -> None:
        self.stopped: Interrupted | None = None
        self._end = end

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Records a signal; a second signal of the same kind has its default effect."""
        self.stopped = Interrupted(SIGNAL_NAMES[number], 128 + number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def raise_if_stopped(self) -> None:
        if self.stopped is None and self._end is not None and time.monotonic() >= self._end:
            self.stopped = Interrupted("--max-time is over", OUT_OF_TIME)
        if self.stopped is not None:
            raise self.stopped


def parse_deadline(flag: str, duration: str | None) -> float | None:
    """Converts the value of a flag, such as '90m', '8.5h' or '3600s', to a deadline on the monotonic clock.

    Raises:
        ConfigError: it is no time.
    """
    if duration is None:
        return None
    number, unit = duration[:-1], duration[-1:]
    with suppress(KeyError, ValueError):
        if (seconds := float(number) * {"s": 1, "m": 60, "h": 3600}[unit]) > 0:
            return time.monotonic() + seconds
    raise ConfigError(f"{flag} {duration} is no time", hint=f"pass {flag} 90m, 8.5h or 3600s")


@contextmanager
def handle_signals(end: float | None = None, *, interrupts: bool = True) -> Iterator[None]:
    """In its block, the first signal or the end of the time is recorded; the next `raise_if_interrupted` raises.

    A second signal ends the process at once.

    Args:
        end: the deadline on the clock of `time.monotonic`; None for no deadline.
        interrupts: handle Ctrl-C too.
    """
    global _request
    request = _request = _StopRequest(end)
    handled = [number for number in SIGNAL_NAMES if interrupts or number != signal.SIGINT]
    before = {number: signal.signal(number, request.handle) for number in handled}
    try:
        yield
    finally:
        _request = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """In its block, SIGTERM raises KeyboardInterrupt as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def block_signals(*, at_first: bool = False) -> Iterator[None]:
    """In its block, new child processes ignore Ctrl-C: a terminal sends it to all processes, and this one decides.

    Args:
        at_first: children, and their children, also delay SIGTERM until each calls `unblock_signals`.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]) if at_first else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)


def unblock_signals() -> None:
    """Accepts SIGTERM again in this process, including a delayed one."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def get_signal_name(number: int) -> str:
    """Returns a name such as 'SIGKILL'."""
    return signal.Signals(number).name


def exit_with_parent() -> None:
    """Ends this process as soon as its parent dies: the parent's locks are free then, and another process may write.

    The watchdog of torch in loader workers is too slow: it looks every 5 s. With a forkserver, the default from Python
    3.14 on, it watches the forkserver, and the workers never end.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def raise_if_interrupted() -> None:
    """Ends the process at a safe point, if a stop was requested.

    Raises:
        Interrupted: a signal has come, or the time is over.
    """
    if _request is not None:
        _request.raise_if_stopped()


SIGNAL_NAMES: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_request: _StopRequest | None = None

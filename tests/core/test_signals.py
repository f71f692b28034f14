"""Signals take effect at safe points; a second signal ends the process at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ffdi.core import signals
from ffdi.core.signals import Interrupted


@pytest.mark.parametrize(("number", "code", "why"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_takes_effect_at_the_next_check(number: str, code: int, why: str) -> None:
    before = [signal.getsignal(one) for one in signals.SIGNAL_NAMES]
    with signals.handle_signals():
        signals.raise_if_interrupted()
        os.kill(os.getpid(), getattr(signal, number))
        with pytest.raises(Interrupted) as caught:
            signals.raise_if_interrupted()
    assert (caught.value.why, caught.value.code) == (why, code)
    assert [signal.getsignal(one) for one in signals.SIGNAL_NAMES] == before
    signals.raise_if_interrupted()


def test_the_end_of_the_time_raises() -> None:
    with signals.handle_signals(end=0.0), pytest.raises(Interrupted) as caught:
        signals.raise_if_interrupted()
    assert (caught.value.why, caught.value.code) == ("--max-time is over", 75)
    with signals.handle_signals(end=float("inf")):
        signals.raise_if_interrupted()


TWICE = """
import os, signal, sys
from ffdi.core import signals
number = getattr(signal, sys.argv[1])
with signals.handle_signals():
    os.kill(os.getpid(), number)
    print("continues", flush=True)
    os.kill(os.getpid(), number)
    print("is still there", flush=True)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_the_process_at_once(number: str) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE, number], capture_output=True, text=True, check=False)
    assert done.stdout == "continues\n"
    assert done.returncode == -getattr(signal, number)

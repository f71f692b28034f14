"""Calls a function in a process of its own, within a time limit. A CUDA error spoils only the process that it is in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from ffdi.core import signals

Send = Callable[[Any], None]
USES_FORK_SERVER = "forkserver" in multiprocessing.get_all_start_methods()
"""The fork server imports torch once for all processes, and never touches the device."""


def call(function: Callable[..., None], arguments: tuple[Any, ...], seconds: float, receive: Send) -> str:
    """Calls `function(send, *arguments)` in a new process; `receive` gets what it sends, while it runs.

    Returns:
        How the process ended, such as "took longer than 590 s"; empty if all is well.
    """
    context = multiprocessing.get_context("forkserver") if USES_FORK_SERVER else multiprocessing.get_context("spawn")
    if USES_FORK_SERVER:
        context.set_forkserver_preload(["gpu_steps.preload"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, arguments, sender))
    process.start()
    sender.close()
    end = time.monotonic() + seconds
    try:
        while ready := connection.wait([receiver, process.sentinel], max(0.0, end - time.monotonic())):
            if receiver not in ready:
                break  # it has ended, and a process of its own may still hold the pipe
            try:
                receive(receiver.recv())
            except EOFError:
                break
        process.join(max(1.0, end - time.monotonic()) if ready else 0)
        return _explain_exit(process.exitcode, seconds)
    finally:
        process.kill()  # its loader workers end with it
        process.join()


def _run(function: Callable[..., None], arguments: tuple[Any, ...], sender: Connection) -> None:
    signals.exit_with_parent()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # standard output is for facts, not for the words of libraries
    try:
        function(sender.send, *arguments)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    sender.close()
    sys.stderr.flush()
    os._exit(0)  # an orderly exit unloads torch, which takes seconds


def _explain_exit(code: int | None, seconds: float) -> str:
    if code is None:
        return f"took longer than {seconds:.0f} s"
    if code < 0:
        return f"was ended by {signals.get_signal_name(-code)}"
    return f"ended with exit status {code}" if code else ""

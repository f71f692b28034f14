"""Jobs run one at a time, in order; unneeded jobs are dropped."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from ffdi.inference.worker import Cancelled, Check, Full, Worker


class Gate:
    """A job that signals its start, and waits for permission to continue."""

    def __init__(self) -> None:
        self.started, self.opened = threading.Event(), threading.Event()

    def __call__(self, check: Check) -> str:
        self.started.set()
        assert self.opened.wait(30)
        check()
        return "done"


def test_jobs_run_in_order_and_errors_reach_the_caller() -> None:
    worker, done = Worker(8), list[int]()
    gate = Gate()
    first = worker.submit(gate)
    others = [worker.submit(lambda _check, number=number: done.append(number)) for number in range(3)]
    faulty = worker.submit(lambda _check: [][0])
    gate.opened.set()
    assert first.result.result(30) == "done"
    with pytest.raises(IndexError):
        faulty.result.result(30)
    assert done == [0, 1, 2]
    assert all(one.result.done() for one in others)


def test_waiting_jobs_are_limited() -> None:
    worker, gate = Worker(1), Gate()
    worker.submit(gate)
    assert gate.started.wait(30)
    waiting = worker.submit(lambda _check: "later")
    assert worker.is_full
    with pytest.raises(Full):
        worker.submit(lambda _check: "never")
    gate.opened.set()
    assert waiting.result.result(30) == "later"


def test_dropped_jobs_do_not_start_or_stop_at_their_next_check() -> None:
    worker, gate, done = Worker(8), Gate(), list[str]()
    running = worker.submit(gate)
    assert gate.started.wait(30)
    waiting = worker.submit(lambda _check: done.append("waiting"))
    last = worker.submit(lambda _check: done.append("last"))
    worker.drop(waiting)
    worker.drop(running)
    gate.opened.set()
    with pytest.raises(Cancelled):
        running.result.result(30)
    last.result.result(30)
    assert (waiting.result.cancelled(), done) == (True, ["last"])


def test_at_the_end_all_jobs_are_dropped() -> None:
    worker, gate, done = Worker(8), Gate(), list[str]()
    running = worker.submit(gate)
    assert gate.started.wait(30)
    waiting = worker.submit(lambda _check: done.append("waiting"))
    worker.end()
    gate.opened.set()
    with pytest.raises(Cancelled):
        running.result.result(30)
    assert (waiting.result.cancelled(), done, worker.is_full) == (True, [], True)
    worker.leave()
    with pytest.raises(Full):
        worker.submit(lambda _check: "never")


def test_a_process_ends_even_in_a_long_library_call() -> None:
    code = """
import time
from ffdi.inference.worker import Worker
worker = Worker(1)
started = worker.submit(lambda _check: time.sleep(3600))
while not started.result.running():
    pass
worker.end()
worker.leave()
print("the last line")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the last line\n", "")

"""Claim: whatever is sent to `serve`, its memory stays below 1 GB, a client beside it is still answered, and
SIGTERM ends it within 5 s.

    python benchmarks/serve_load.py --experiment NAME [--name EXPORT]

takes an export of this workspace, serves it on the loopback to a normal client, who asks for one score after another
and tries again where the server says so, and to others beside it, one kind after another:

- ten flat PNGs of 7,200 px, which are refused, and ten of 7,100 px, which are just accepted, to /look at once;
- 32 uploads of 39 MB at once;
- 64 uploads of which a byte comes every second;
- uploads to /look whose clients have gone away before the answer, for ten seconds;
- 400 connections on which nothing is asked.

Then all of that at once, and SIGTERM. Prints for each the peak of the server's memory since its start (VmHWM of Linux),
the normal client's latency, and how the others were answered; at last the seconds from SIGTERM to the end. Takes three
minutes and sends nothing elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import cv2
import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
BOMBS, LARGE, SLOW, SILENT = 10, 32, 64, 400
LONGEST = 30.0
"""Seconds that each kind lasts, at most."""
MEMORY, ENDING = 1e9, 5.0
"""Bytes and seconds that are claimed."""


def flat(edge: int) -> bytes:
    """A PNG of one colour."""
    return cv2.imencode(".png", np.full((edge, edge, 3), 128, np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def face() -> bytes:
    """A JPEG as a normal client has it."""
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), (0, 0), 3)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def ask(port: int, path: str, body: bytes, seconds: float = 120) -> str:
    """The status of an answer, or why there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", path, body)
        return str(connection.getresponse().status)
    except (OSError, HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def opened(port: int, sent: bytes) -> socket.socket:
    """A connection on which something was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(sent)
    return connection


def head(path: str, length: int) -> bytes:
    """A request for which its body is missing."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()


def bombs(edge: int) -> Callable[[int, threading.Event], Counter[str]]:
    """Large images at once."""

    def send(port: int, _end: threading.Event) -> Counter[str]:
        body = flat(edge)
        return together([lambda: ask(port, "/look", body)] * BOMBS)

    return send


def large(port: int, _end: threading.Event) -> Counter[str]:
    """Uploads that are no images, as large as may be."""
    body = b"\xff\xd8" + bytes(39_000_000)
    return together([lambda: ask(port, "/look", body)] * LARGE)


def slow(port: int, _end: threading.Event) -> Counter[str]:
    """Uploads that never come to their end."""

    def send() -> str:
        with suppress(OSError), opened(port, head("/score", 1_000_000)) as connection:
            connection.settimeout(1)
            for _ in range(int(LONGEST)):
                with suppress(TimeoutError):
                    return connection.recv(64)[9:12].decode() or "closed"  # 'HTTP/1.1 408 ...'
                connection.sendall(b"x")
            return "held"
        return "closed"

    return together([send] * SLOW)


def gone(port: int, _end: threading.Event) -> Counter[str]:
    """Clients that do not wait."""
    body, end, count = face(), time.monotonic() + LONGEST / 3, 0
    while time.monotonic() < end:
        with suppress(OSError):
            opened(port, head("/look", len(body)) + body).close()
        count += 1
        time.sleep(0.02)
    return Counter({"gone": count})


def silent(port: int, end: threading.Event) -> Counter[str]:
    """Connections on which nothing is asked."""
    connections = []
    for _ in range(SILENT):
        with suppress(OSError):
            connections.append(opened(port, b"POST /sco"))
    end.wait(LONGEST / 2)
    closed: Counter[str] = Counter()
    for connection in connections:
        connection.settimeout(0.01)
        with suppress(OSError):
            closed["closed" if connection.recv(1) == b"" else "answered"] += 1
        connection.close()
    return closed


def together(each: list[Callable[[], str]]) -> Counter[str]:
    """How all of them ended, side by side."""
    found: Counter[str] = Counter()
    threads = [threading.Thread(target=lambda one=one: found.update([one()])) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Client:
    """Asks for one score after another."""

    def __init__(self, port: int) -> None:
        self._port, self._body, self._end = port, face(), threading.Event()
        self.seconds: list[float] = []
        self.failed: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            start = time.perf_counter()
            while (status := ask(self._port, "/score", self._body)) != "200":
                self.failed[status] += 1
                if self._end.wait(2):
                    return
            self.seconds.append(time.perf_counter() - start)
            time.sleep(0.05)

    def describe(self) -> str:
        """Its latency."""
        if not self.seconds:
            return "never answered"
        middle, last = np.median(self.seconds), max(self.seconds)
        tried = f", to be sent again {dict(self.failed)}" if self.failed else ""
        return f"{len(self.seconds)} answers, median {middle:.2f} s, longest {last:.2f} s{tried}"


def peak(pid: int) -> float:
    """Bytes that a process has had in memory at once."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@contextmanager
def served(words: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command in a process of its own, and its port."""
    command = [sys.executable, "-m", "invoke", "serve", *words, "--device", "cpu", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, env={**os.environ}) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        try:
            yield server, int(url.rpartition(":")[2])
        finally:
            server.kill()


def main() -> None:
    """Prints a line for each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--name")
    given = parser.parse_args()
    words = ["--experiment", given.experiment, *(["--name", given.name] if given.name else [])]
    kinds = {
        "no other client": lambda _port, end: Counter({"waited": int(not end.wait(5))}),
        f"{BOMBS} flat PNGs of 7,200 px": bombs(7200),
        f"{BOMBS} flat PNGs of 7,100 px": bombs(7100),
        f"{LARGE} uploads of 39 MB": large,
        f"{SLOW} slow uploads": slow,
        "clients that go away": gone,
        f"{SILENT} silent connections": silent,
    }
    most = 0.0
    with served(words) as (server, port):
        for name, kind in kinds.items():
            with Client(port) as client:
                others = kind(port, threading.Event())
            most = peak(server.pid)
            line = f"others {dict(others)}; normal client: {client.describe()}; peak {most / 1e6:.0f} MB"
            print(f"{name}: {line}", flush=True)
        end = threading.Event()
        everybody = [threading.Thread(target=kind, args=(port, end)) for kind in list(kinds.values())[1:]]
        for thread in everybody:
            thread.start()
        time.sleep(3)
        most = max(most, peak(server.pid))
        start = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
        seconds = time.perf_counter() - start
        end.set()
        for thread in everybody:
            thread.join()
    print(f"SIGTERM with all of that: exit status {code} after {seconds:.1f} s")
    holds = most < MEMORY and seconds <= ENDING and code == 0
    print(f"the claim {'holds' if holds else 'FAILS'}: peak {most / 1e6:.0f} MB, end after {seconds:.1f} s")


if __name__ == "__main__":
    main()

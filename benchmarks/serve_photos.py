"""Claim: the page of `serve` shows a photo of 12, 24 or 48 megapixels within 2 s on two cores, with at most 1 GB more
memory than before; and of 200 requests at once at least 40 are answered, the others get 503, and none hangs.

    python benchmarks/serve_photos.py --experiment NAME [--name EXPORT] [--rounds 3]

Serves an export of this workspace on the loopback. Each photo is a JPEG of smooth noise with fine grain; /look decodes
it, scores it, and draws the heat map and the views. Prints the median seconds of each size, the peak of the server's
memory (VmHWM of Linux) above its memory before, and how the 200 requests were answered. Ends with 1 if the claim does
not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import cv2
import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
SIZES = {"12 MP": (3000, 4000), "24 MP": (4000, 6000), "48 MP": (6000, 8000)}
REQUESTS, ANSWERED, SECONDS, MEMORY = 200, 40, 2.0, 1e9


def draw_photo(height: int, width: int) -> bytes:
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (height // 100, width // 100, 3), np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(0, 12, (height, width, 1), np.uint8)
    return cv2.imencode(".jpg", cv2.add(pixels, np.repeat(grain, 3, 2)), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def ask(port: int, path: str, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def read_memory(pid: int, key: str) -> int:
    """Bytes: VmRSS is the memory now, VmHWM its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--name")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    words = ["--experiment", asked.experiment, *(["--name", asked.name] if asked.name else [])]
    server = subprocess.Popen(
        [sys.executable, "-m", "invoke", "serve", *words, "--port", "0", "--json"],
        cwd=PROJECT, env=dict(os.environ), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    kept = True
    try:
        port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])
        ask(port, "/look", draw_photo(300, 400))
        before = read_memory(server.pid, "VmRSS")
        for size, edges in SIZES.items():
            photo, seconds = draw_photo(*edges), []
            for _ in range(asked.rounds):
                started = time.perf_counter()
                assert ask(port, "/look", photo) == 200
                seconds.append(time.perf_counter() - started)
            more = read_memory(server.pid, "VmHWM") - before
            print(f"{size} ({len(photo) / 1e6:.0f} MB): {statistics.median(seconds):.2f} s, {more / 1e6:.0f} MB more")
            kept &= statistics.median(seconds) <= SECONDS and more <= MEMORY
        small = draw_photo(800, 600)
        with ThreadPoolExecutor(REQUESTS) as pool:
            answers = Counter(pool.map(lambda _: ask(port, "/score", small), range(REQUESTS)))
        print(f"{REQUESTS} at once: {dict(answers)}")
        kept &= answers[200] >= ANSWERED and set(answers) <= {200, 503}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())

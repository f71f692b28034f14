"""Nothing is sent, and no file is written outside of the workspace: by the entries that people run on their data.

Connections of Python's sockets are recorded everywhere, and files in the home folder. Where there is strace, so are the
connections of native code and the files elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

STRACE = shutil.which("strace")
CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink"
ALLOWED = ("/dev/", "/proc/", "/tmp/", "/var/tmp/", "/sys/")
"""Places of temporary files, devices and pipes."""
RECORD = """
import os, sys

OWN = (None, "", "localhost", "127.0.0.1", "::1")

def record(event, arguments, log=os.environ["SOCKET_LOG"]):
    sends = event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[-1], tuple)
    if sends or event == "socket.getaddrinfo" and arguments[0] not in OWN:
        with open(log, "a") as file:
            file.write(f"{event} {arguments}" + chr(10))

sys.addaudithook(record)
"""
"""sitecustomize.py of the commands: an audit hook that writes down what Python's sockets reach or look up."""


class Traced:
    """Runs commands with an empty home folder, and lists what they reach and write."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.home, self.log, self.sockets, self.root = folder / "home", folder / "strace.log", folder / "sockets", root
        self.home.mkdir()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(RECORD)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith(("TELEMETRY", "_UPDATE"))},
            "HOME": str(self.home), "FFDI_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(folder / "site"), "SOCKET_LOG": str(self.sockets),
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        traced = [STRACE, "-f", "-qq", "-y", "-o", str(self.log), "-e", f"trace={CALLS}"] if STRACE else []
        return subprocess.Popen(
            [*traced, *words],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> None:
        process = self.start(*words)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    def list_breaches(self) -> list[str]:
        """Connections, look-ups, and files in the home folder or outside of the workspace."""
        found = [f"written: {path}" for path in self.home.rglob("*")]
        found += self.sockets.read_text().splitlines() if self.sockets.exists() else []
        for line in self.log.read_text(errors="replace").splitlines() if STRACE else ():
            if re.search(r"(connect|sendto|sendmsg|sendmmsg)\(.*AF_INET", line):
                found.append(line)
            elif "O_CREAT" in line or re.search(r" (creat|mkdir|mkdirat|rename\w*|link|linkat|symlink\w*)\(", line):
                failed = re.search(r"= -1 (EEXIST|ENOENT|EROFS|EACCES)", line)
                if not failed and any(not path.startswith((*ALLOWED, str(self.root))) for path in list_paths(line)):
                    found.append(line)
        return found


def list_paths(line: str) -> list[str]:
    """The absolute paths in a line of `strace -y`, which shows the folder of a relative path."""
    pairs = re.findall(r'(?:[\w]+<([^>]*)>, )?"([^"]*)"', line)
    return [str(Path(folder or PROJECT, path)) for folder, path in pairs]


@pytest.fixture
def traced(tmp_path: Path, trained: Path) -> Traced:
    return Traced(tmp_path, shutil.copytree(trained, tmp_path / "root"))


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("import pathlib; (pathlib.Path.home() / 'id').touch()", "home/id"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "socket.connect"),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "socket.sendto"),
        ("import socket\ntry: socket.getaddrinfo('events.invalid', 443)\nexcept OSError: pass", "events.invalid"),
    ],
)
def test_a_breach_is_seen(code: str, seen: str, traced: Traced) -> None:
    traced.run(sys.executable, "-c", code)
    assert any(seen in breach for breach in traced.list_breaches())


@pytest.mark.skipif(STRACE is None, reason="there is no strace")
def test_a_breach_of_native_code_is_seen(traced: Traced) -> None:
    address = "bytes([2, 0, 0, 9, 127, 0, 0, 1]) + bytes(8)"
    connect = f"import ctypes; c = ctypes.CDLL(None); c.connect(c.socket(2, 1, 0), {address}, 16)"
    write = (
        "import os; os.chdir('/'); os.close(os.open('ffdi-breach', os.O_CREAT | os.O_WRONLY)); os.unlink('ffdi-breach')"
    )
    for code, seen in ((connect, "AF_INET"), (write, "ffdi-breach")):
        traced.run(sys.executable, "-c", code)
        assert any(seen in breach for breach in traced.list_breaches())


def test_predict_onnx_sends_nothing(traced: Traced, competition: Path) -> None:
    words = ("predict-onnx", "--experiment", "tiny", "--data", str(competition))
    traced.run("invoke", *words, "--device", "cpu", "--output", str(traced.root / "scores.csv"))
    assert traced.list_breaches() == []


def test_a_selftest_of_all_runtimes_sends_nothing(traced: Traced) -> None:
    traced.run("invoke", "predict-onnx", "--experiment", "tiny", "--selftest")
    assert traced.list_breaches() == []


def test_predict_py_sends_nothing(traced: Traced, competition: Path) -> None:
    traced.run(sys.executable, str(traced.root / "exports" / "tiny" / "predict.py"), str(competition / "testset"))
    assert traced.list_breaches() == []


def test_serve_sends_nothing(traced: Traced) -> None:
    process = traced.start("invoke", "serve", "--experiment", "tiny", "--device", "cpu", "--port", "0", "--json")
    assert process.stdout is not None
    assert "http://" in process.stdout.readline()
    _stop(process)
    assert traced.list_breaches() == []


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends the server under strace, which does not pass on a SIGTERM that it gets itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in children if STRACE else [process.pid]:
        os.kill(int(pid), signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "albumentations", "huggingface_hub"])
def test_a_library_that_ffdi_imports_sends_nothing(name: str, traced: Traced) -> None:
    traced.run(sys.executable, "-c", f"import ffdi, importlib, time; importlib.import_module({name!r}); time.sleep(1)")
    assert traced.list_breaches() == []

"""Nothing is sent, and no file is written outside of the workspace: by the entries that people run on their data."""

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
CALLS = "socket,connect,sendto,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink"
SEND = "import socket; socket.socket().connect(('127.0.0.1', 9))"
ALLOWED = ("/dev/", "/proc/", "/tmp/", "/var/tmp/", "/sys/")
"""Places of temporary files, devices and pipes."""


class Traced:
    """Runs commands with an empty home folder; with strace, their sockets and written files are listed."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.home, self.log, self.root = folder / "home", folder / "strace.log", root
        self.home.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith(("TELEMETRY", "_UPDATE"))},
            "HOME": str(self.home), "FFDI_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        traced = [STRACE, "-f", "-qq", "-o", str(self.log), "-e", f"trace={CALLS}"] if STRACE else []
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

    def list_breaches(self, *allowed: Path) -> list[str]:
        """Connections, and files in the home folder or outside of the workspace and `allowed`."""
        found = [f"written: {path}" for path in self.home.rglob("*")]
        places = (*ALLOWED, *map(str, (self.root, *allowed)))
        for line in self.log.read_text(errors="replace").splitlines() if STRACE else ():
            if re.search(r"(connect|sendto)\(.*AF_INET", line):
                found.append(line)
            elif "O_CREAT" in line or re.search(r" (creat|mkdir|mkdirat|rename\w*|link|linkat|symlink)\(", line):
                paths = re.findall(r'"([^"]*)"', line)
                failed = re.search(r"= -1 (EEXIST|ENOENT|EROFS|EACCES)", line)
                if not failed and any(path.startswith("/") and not path.startswith(places) for path in paths):
                    found.append(line)
        return found


@pytest.fixture
def traced(tmp_path: Path, trained: Path) -> Traced:
    return Traced(tmp_path, shutil.copytree(trained, tmp_path / "root"))


def test_a_breach_is_seen(traced: Traced) -> None:
    if STRACE is None:
        pytest.skip("needs strace")
    process = traced.start(sys.executable, "-c", f"open({str(traced.home / 'id')!r}, 'w'); {SEND}")
    process.communicate()
    assert len(traced.list_breaches()) >= 2


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

"""Every command of the documents runs as written, on small experiments."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffdi.commands import kaggle_bundle
from ffdi.inference import server
from ffdi.submission import kaggle
from ffdi.submission.kaggle import Answer, Verdict
from tests import face_networks
from tests.conftest import PROJECT, Invoke

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
NAMES = ("quickstart", "resnet18", "convnext-robust", "small", "mine", "NAME")
ELSEWHERE = {
    "--engine ray": "tests/engines/test_ray.py runs it on a cluster",
    "invoke COMMAND": "a placeholder",
    "poly1": "tests/test_docs.py tries that loss",
}
"""What is not run here, and why."""
OTHERWISE = {
    "--trials 27": "--trials 3",
    "--student small": "--student new",
    "--name round1": "--name round1 --confidence 0.5",
}
"""What is run in place of it: it would take long, its result is there already, or the networks are not sure enough."""


def commands() -> list[str]:
    """All of them, once each, in the order of the pages."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        calls = [one for line in lines for one in re.findall(r"invoke [a-z-][^`#]*", line)]
        calls += re.findall(r"(?<!`)`(invoke [^`]+)`(?!`)", text)
        found |= dict.fromkeys(" ".join(one.split()) for one in calls)
    return list(found)


RUN = [one for one in commands() if not any(word in one for word in ELSEWHERE)]


def test_commands_are_found_in_blocks_and_in_lines() -> None:
    assert {"invoke verify", "invoke export-onnx -e mine", "invoke score --stress --shift"} <= set(RUN)
    assert all(any(word in one for one in commands()) for word in [*ELSEWHERE, *OTHERWISE])


@pytest.fixture(scope="module")
def there(trained: Path, competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which all names of the documents are trained experiments, with data and exports."""
    root = tmp_path_factory.mktemp("commands") / "workspace"
    for name in NAMES:
        shutil.copytree(trained / "experiments" / "tiny", root / "experiments" / name)
        shutil.copytree(trained / "exports" / "tiny", root / "exports" / name)
        config = root / "experiments" / name / "config.toml"
        config.write_text(f'{config.read_text()}\n[data]\nroot = "phase1"\n')
    (root / "experiments" / "all").mkdir()
    (root / "experiments" / "all" / "config.toml").write_text('[group]\nmembers = ["quickstart", "resnet18"]\n')
    shutil.copytree(competition, root / "phase1")
    shutil.copy(root / "experiments" / "quickstart" / "oof.csv", root / "other-tool.csv")
    face_networks.write_mesh(root / "face_landmark.onnx")
    return root


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What would leave this machine, or not end by itself."""
    monkeypatch.setattr(server, "serve", lambda *_: None)
    monkeypatch.setattr(kaggle, "find_program", lambda: "kaggle")
    monkeypatch.setattr(kaggle, "submit", lambda *_: Answer(0, "Submission ref: 1", "1"))
    monkeypatch.setattr(kaggle, "fetch_verdict", lambda *_: Verdict("COMPLETE", "0.9", ""))
    monkeypatch.setattr(kaggle_bundle, "download_wheels", lambda *_: 0)
    return


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("line", RUN)
def test_a_documented_command_runs(line: str, there: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_ROOT", str(there))
    made = f"--as new-{RUN.index(line)}"
    for old, new in {**OTHERWISE, "--as mine": made}.items():
        line = line.replace(old, new)
    places = {
        "phase1": there / "phase1",
        "FOLDER": there / "phase1",
        "DIR-or-CSV": there / "phase1" / "testset",
        "scores.csv": there / "scores.csv",
        "other-tool.csv": there / "other-tool.csv",
        "face_landmark.tflite": there / "face_landmark.onnx",
        "COMMAND": "score",
    }
    words = [str(places.get(word, word)) for word in shlex.split(line)[1:]]
    words += ["--port", "0"] if words[0] == "serve" else []
    answer = invoke(*words)
    assert (answer.code, answer.err) == (0, ""), answer.out + answer.err
    assert answer.out

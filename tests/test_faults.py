"""After any interruption the same command gives the same bytes; failed writes are errors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests import faults
from tests.conftest import TINY
from tests.faults import Ended, Fault

KILLS = 20
CONFIG = TINY.replace("ema_decay = 0.9", "ema_decay = 0.9\ncheckpoint_seconds = 0.001")


def workspace(root: Path) -> Path:
    """With an experiment that is not trained."""
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    return root


def train(root: Path, competition: Path, fault: Fault | None = None) -> Ended:
    """train-folds on that workspace."""
    return faults.run(["train-folds", "--experiment", "tiny", "--data", str(competition)], root, fault)


@pytest.fixture(scope="session")
def unbroken(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A run that nothing happened to."""
    root = workspace(tmp_path_factory.mktemp("unbroken") / "root")
    train(root, competition)  # what is imported later than at the start is imported once
    shutil.rmtree(root)
    ended = train(workspace(root), competition)
    assert ended.code == 0, ended.output
    return root, ended


def check_goes_on(root: Path, competition: Path, unbroken: Path) -> None:
    """The same command ends in what an unbroken run ends in, and leaves nothing else behind."""
    again = train(root, competition)
    assert again.code == 0, again.output
    assert faults.lasting(root) == faults.lasting(unbroken)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_resumes_to_the_same_bytes(
    number: int, unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path
) -> None:
    root, (_, _, _, seconds) = workspace(tmp_path / "root"), unbroken[1]
    ended = train(root, competition, Fault("SIGKILL", seconds=seconds * (number + 0.5) / KILLS))
    assert ended.code in (0, -9)
    check_goes_on(root, competition, unbroken[0])


def calls(unbroken: Ended, share: int, of: int) -> list[int]:
    """Every so-manieth call that changes something, from 1."""
    return list(range(1 + share, len(unbroken.calls) + 1, of))


@pytest.mark.parametrize("share", range(4))
def test_a_run_killed_at_a_call_resumes_to_the_same_bytes(
    share: int, unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path
) -> None:
    some = calls(unbroken[1], share * 9, 36)
    assert some
    for call in some:
        root = workspace(tmp_path / f"root{call}")
        ended = train(root, competition, Fault("SIGKILL", call))
        assert ended.code == -9
        check_goes_on(root, competition, unbroken[0])


@pytest.mark.parametrize("share", range(4))
def test_a_failed_write_is_an_error_without_loss(
    share: int, unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path
) -> None:
    kinds = ("ENOSPC", "EIO", "EACCES")
    for call in calls(unbroken[1], 4 + share * 9, 36):
        root = workspace(tmp_path / f"root{call}")
        kind = kinds[call % len(kinds)]
        ended = train(root, competition, Fault(kind, call))
        what = unbroken[1].calls[call - 1]
        assert "Traceback" not in ended.output, (what, ended.output)
        if ended.code != 0:
            assert ended.code == 1, (what, ended.output)
            assert "error: " in ended.output
            assert "next: " in ended.output, (what, ended.output)
        check_goes_on(root, competition, unbroken[0])


@pytest.mark.parametrize(
    ("size", "config", "path"),
    [
        (20_000, CONFIG, "data/findings.sqlite, the store of scan results,"),
        (1_000_000, CONFIG, "experiments/tiny/fold_0/checkpoint-000000001.safetensors"),
        (1_000_000, TINY, "experiments/tiny/fold_0/weights.safetensors"),
    ],
    ids=["findings", "checkpoint", "weights"],
)
def test_a_full_disk_in_a_library_is_an_error(
    size: int, config: str, path: str, unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path
) -> None:
    root = workspace(tmp_path / "root")
    (root / "experiments" / "tiny" / "config.toml").write_text(config)
    ended = train(root, competition, Fault("full", size=size))
    assert ended.code == 1
    assert f"error: {root}/{path} cannot be " in ended.output
    assert re.search("\nnext: free (the disk|some disk space)", ended.output)
    (root / "experiments" / "tiny" / "config.toml").write_text(CONFIG)
    check_goes_on(root, competition, unbroken[0])


def test_a_graph_that_cannot_be_written_keeps_the_old_one(copy: Path) -> None:
    before = faults.lasting(copy)
    ended = faults.run(["export-onnx", "--experiment", "tiny"], copy, Fault("full", size=2_000_000))
    assert ended.code == 1
    assert "model.onnx cannot be written: File too large\nnext: free the disk or name another path" in ended.output
    assert faults.lasting(copy) == before


@pytest.mark.parametrize(("number", "code", "why"), [("SIGTERM", 143, "SIGTERM"), ("SIGINT", 130, "Ctrl-C")])
def test_a_signal_stops_cleanly(
    number: str, code: int, why: str, unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path
) -> None:
    root = workspace(tmp_path / "root")
    at = next(path for path, call in enumerate(unbroken[1].calls, 1) if "fold_0/.checkpoint" in call)
    ended = train(root, competition, Fault(number, at))
    assert ended.code == code
    assert f"stopped ({why}): nothing finished is lost; the same command does the rest\n" in ended.output
    assert list((root / "experiments" / "tiny" / "fold_0").glob("checkpoint-*.json"))
    again = train(root, competition)
    assert "fold 0  resumes in epoch " in again.output
    check_goes_on(root, competition, unbroken[0])


def test_the_end_of_the_time_stops_cleanly(unbroken: tuple[Path, Ended], competition: Path, tmp_path: Path) -> None:
    root = workspace(tmp_path / "root")
    words = ["train-folds", "--experiment", "tiny", "--data", str(competition), "--max-time", "0.01s"]
    ended = faults.run(words, root)
    assert ended.code == 75
    assert "stopped (--max-time is over): nothing finished is lost" in ended.output
    check_goes_on(root, competition, unbroken[0])

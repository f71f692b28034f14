"""Folds that are trained at once, each in a process of its own: same bytes, same manners as one after the other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ffdi.engines import process
from ffdi.engines.job import Job
from ffdi.experiments.fold import FoldFolder
from tests.conftest import TINY, Invoke
from tests.engines.conftest import CONFIG, begin, ended, folds, lives, server, typed, until_both_train

AT_ONCE = ["--jobs", "2"]


def test_folds_at_once_end_in_the_same_bytes(unbroken: dict[str, object], competition: Path, tmp_path: Path) -> None:
    training = typed(tmp_path, competition, *AT_ONCE)
    said, _ = training.communicate(timeout=120)
    assert training.returncode == 0
    assert "\n2 folds at once: on cpu, each with 1 thread\n" in said
    assert folds(tmp_path) == unbroken


def test_a_training_that_everything_happens_to_ends_in_the_same_bytes(
    unbroken: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    for number, code, why in ((signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")):
        training = (typed if number == signal.SIGINT else begin)(tmp_path, competition, *AT_ONCE)
        until_both_train(training)
        started = time.monotonic()
        if number == signal.SIGINT:
            os.kill(server(training), signal.SIGTERM)  # which is not for that one, not even where all are told
            os.killpg(training.pid, number)  # as a terminal does: all of them at once
        else:
            training.send_signal(number)
        assert ended(training) == (code, f"stopped ({why}): nothing finished is lost; the same command does the rest\n")
        assert time.monotonic() - started < 10
        for fold in (0, 1):
            assert list((tmp_path / "experiments" / "tiny" / f"fold_{fold}").glob("checkpoint-*.json"))

    training = begin(tmp_path, competition, *AT_ONCE)
    first, _ = until_both_train(training)
    os.kill(first, signal.SIGKILL)
    assert ended(training) == (
        1,
        "error: the process that trained fold 0 was killed (exit status -9)\n"
        "next: the same command goes on from its last checkpoint; if memory was short, pass a smaller --jobs\n",
    )

    training = typed(tmp_path, competition, *AT_ONCE)
    pids = [*until_both_train(training), server(training)]
    training.kill()
    training.wait()
    until = time.monotonic() + 5
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if lives(pid)] == []  # none outlives the process that began it

    assert ended(begin(tmp_path, competition, *AT_ONCE)) == (0, "")
    assert folds(tmp_path) == unbroken


def test_what_a_fold_raises_is_said_as_ever(competition: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    diverging = CONFIG.replace("lr = 3e-3", "lr = 1e30").replace("epochs = 24", "epochs = 2")
    (tmp_path / "experiments" / "tiny" / "config.toml").write_text(diverging)
    code, said = ended(begin(tmp_path, competition, *AT_ONCE))
    assert (code, "Traceback" in said) == (1, False)
    assert said.startswith("error: the ")
    assert ": training has diverged\n" in said
    assert said.splitlines()[-1].startswith("next: lower train.lr")


def test_a_fault_of_ours_comes_with_its_traceback(tmp_path: Path) -> None:
    nothing: Any = None
    training = process.start_process(Job(nothing, FoldFolder(tmp_path / "fold_3", 3), "fp32"), [nothing])
    with pytest.raises(RuntimeError) as error:
        training.told(*training.pipes)
    training.end(time.monotonic() + 10)
    said = str(error.value)
    assert said.startswith("fold 3 has failed in its process:\nTraceback (most recent call last):\n")
    assert said.endswith("AttributeError: 'NoneType' object has no attribute 'config'\n")


def test_experiments_are_trained_at_once_and_each_gets_its_scores(
    competition: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFDI_ROOT", str(tmp_path))
    for number in (1, 2):
        folder = tmp_path / "experiments" / f"tiny{number}"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(TINY.replace("seed = 3", f"seed = {number}"))
    names = ["--experiment", "tiny1", "--experiment", "tiny2"]
    answer = invoke("train-folds", *names, "--data", str(competition), "--jobs", "4")
    assert (answer.code, answer.err) == (0, "")
    said = answer.out
    for name in ("tiny1", "tiny2"):
        assert f"\n{name}  fold 1  epoch  3/3  " in said
        assert (tmp_path / "experiments" / name / "metrics.json").is_file()
    assert said.count("\ndata: 64 training images ") == 1  # which both share
    doctors = [tmp_path / "experiments" / name / "doctor.json" for name in ("tiny1", "tiny2")]
    assert doctors[0].read_bytes() == doctors[1].read_bytes()
    alone = tmp_path / "alone" / "experiments" / "tiny2"
    alone.mkdir(parents=True)
    (alone / "config.toml").write_text(TINY.replace("seed = 3", "seed = 2"))
    monkeypatch.setenv("FFDI_ROOT", str(tmp_path / "alone"))
    assert invoke("train-folds", "--experiment", "tiny2", "--data", str(competition)).code == 0
    together = tmp_path / "experiments" / "tiny2"
    assert (alone / "oof.csv").read_bytes() == (together / "oof.csv").read_bytes()
    assert said.endswith(f" --experiment tiny1 --experiment tiny2 --data {competition}\n")


def test_a_number_of_jobs_that_is_none_is_refused(competition: Path, tmp_path: Path) -> None:
    for wrong in ("0", "two", "-1"):
        assert ended(begin(tmp_path, competition, f"--jobs={wrong}")) == (
            1,
            f"error: --jobs {wrong}: not 1 or more\nnext: pass --jobs 1 or more\n",
        )

"""Folds in concurrent child processes: the same bytes, signals and errors as one after the other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ffdi.engines import local
from ffdi.experiments.fold import FoldFolder
from ffdi.training.fold import FoldJob
from tests.conftest import TINY, Invoke
from tests.engines.conftest import (
    CONFIG,
    find_fork_server,
    is_alive,
    read_results,
    start,
    start_in_terminal,
    wait_for_both_folds,
    wait_for_end,
)

AT_ONCE = ["--jobs", "2"]


def test_concurrent_folds_have_the_same_bytes(
    uninterrupted: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    training = start_in_terminal(tmp_path, competition, *AT_ONCE)
    output, _ = training.communicate(timeout=120)
    assert training.returncode == 0
    assert "\n2 folds at once: on cpu, each with 1 thread\n" in output
    assert read_results(tmp_path) == uninterrupted


def test_interrupted_and_killed_trainings_end_in_the_same_bytes(
    uninterrupted: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    for number, code, why in ((signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")):
        training = (start_in_terminal if number == signal.SIGINT else start)(tmp_path, competition, *AT_ONCE)
        wait_for_both_folds(training)
        started = time.monotonic()
        if number == signal.SIGINT:
            os.kill(find_fork_server(training), signal.SIGTERM)  # the fork server ignores SIGTERM
            os.killpg(training.pid, number)  # as a terminal does, to all processes at once
        else:
            training.send_signal(number)
        assert wait_for_end(training) == (
            code,
            f"stopped ({why}): nothing finished is lost; the same command does the rest\n",
        )
        assert time.monotonic() - started < 10
        for fold in (0, 1):
            assert list((tmp_path / "experiments" / "tiny" / f"fold_{fold}").glob("checkpoint-*.json"))

    training = start(tmp_path, competition, *AT_ONCE)
    first, _ = wait_for_both_folds(training)
    os.kill(first, signal.SIGKILL)
    assert wait_for_end(training) == (
        1,
        "error: the process that trained fold 0 was killed (exit status -9)\n"
        "next: run the same command again: it resumes from the last checkpoint; if memory ran out, pass a smaller "
        "--jobs\n",
    )

    training = start_in_terminal(tmp_path, competition, *AT_ONCE)
    pids = [*wait_for_both_folds(training), find_fork_server(training)]
    training.kill()
    training.wait()
    until = time.monotonic() + 5
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []  # the children end with their parent

    assert wait_for_end(start(tmp_path, competition, *AT_ONCE)) == (0, "")
    assert read_results(tmp_path) == uninterrupted


def test_an_error_of_a_fold_is_reported(competition: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    diverging = CONFIG.replace("lr = 3e-3", "lr = 1e30").replace("epochs = 24", "epochs = 2")
    (tmp_path / "experiments" / "tiny" / "config.toml").write_text(diverging)
    code, output = wait_for_end(start(tmp_path, competition, *AT_ONCE))
    assert (code, "Traceback" in output) == (1, False)
    assert output.startswith("error: the ")
    assert ": training has diverged\n" in output
    assert output.splitlines()[-1].startswith("next: lower train.lr")


def test_an_unexpected_error_has_its_traceback(tmp_path: Path) -> None:
    nothing: Any = None
    training = local.start_fold_processes(FoldJob(nothing, FoldFolder(tmp_path / "fold_3", 3), "fp32"), [nothing])
    with pytest.raises(RuntimeError) as error:
        training.receive(*training.pipes)
    training.close(time.monotonic() + 10)
    output = str(error.value)
    assert output.startswith("fold 3 has failed in its process:\nTraceback (most recent call last):\n")
    assert output.endswith("AttributeError: 'NoneType' object has no attribute 'features'\n")


def test_concurrent_experiments_each_have_their_scores(
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
    output = answer.out
    for name in ("tiny1", "tiny2"):
        assert f"\n{name}  fold 1  epoch  3/3  " in output
        assert (tmp_path / "experiments" / name / "metrics.json").is_file()
    assert output.count("\ndata: 64 training images ") == 1  # shared by both
    doctors = [tmp_path / "experiments" / name / "doctor.json" for name in ("tiny1", "tiny2")]
    assert doctors[0].read_bytes() == doctors[1].read_bytes()
    alone = tmp_path / "alone" / "experiments" / "tiny2"
    alone.mkdir(parents=True)
    (alone / "config.toml").write_text(TINY.replace("seed = 3", "seed = 2"))
    monkeypatch.setenv("FFDI_ROOT", str(tmp_path / "alone"))
    assert invoke("train-folds", "--experiment", "tiny2", "--data", str(competition)).code == 0
    together = tmp_path / "experiments" / "tiny2"
    assert (alone / "oof.csv").read_bytes() == (together / "oof.csv").read_bytes()
    assert output.endswith(f" --experiment tiny1 --experiment tiny2 --data {competition}\n")


def test_an_invalid_number_of_jobs_is_refused(competition: Path, tmp_path: Path) -> None:
    for wrong in ("0", "two", "-1"):
        assert wait_for_end(start(tmp_path, competition, f"--jobs={wrong}")) == (
            1,
            f"error: --jobs {wrong}: not 1 or more\nnext: pass --jobs 1 or more\n",
        )

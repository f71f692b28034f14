"""Kinds of fakes that are left out, as a person types it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TINY, Invoke, skip_export_trial

KINDS = ("swap", "talking", "editing")
RECIPE = TINY.replace("epochs = 3", "epochs = 1")
LEFT_OUT = RECIPE.replace("k = 2", 'k = 3\nscheme = "leave-kind-out"')


@pytest.fixture
def root(workspace: Path, competition: Path, tmp_path: Path) -> Path:
    """A competition with the kinds of its fakes; 'tiny' and 'unseen' differ in their folds."""
    root = tmp_path / "kinds"
    shutil.copytree(competition, root)
    labels = pd.read_csv(root / "trainset_label.txt")
    labels["family"] = [KINDS[row % 3] if target else "real" for row, target in enumerate(labels.target)]
    labels[["img_name", "family"]].to_csv(root / "families.csv", index=False)
    for name, recipe in (("tiny", RECIPE), ("unseen", LEFT_OUT)):
        folder = workspace / "experiments" / name
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(f'{recipe}[data]\nkind_column = "family"\n')
        skip_export_trial(workspace, name)
    return root


def test_each_kind_is_scored_by_a_network_that_never_saw_it(workspace: Path, root: Path, invoke: Invoke) -> None:
    for name in ("tiny", "unseen"):
        answer = invoke("train-folds", "--experiment", name, "--data", str(root))
        assert answer.code == 0, answer.err
    assert "kinds of fakes: editing " in answer.out
    assert "AUC by kind of fake, each by a network that has never seen this kind" in answer.out
    folder = workspace / "experiments" / "unseen"
    folds = pd.read_csv(folder / "folds.csv", keep_default_na=False)
    assert folds[folds.target == 1].groupby("kind").fold.nunique().tolist() == [1, 1, 1]
    assert set(folds[folds.target == 0].kind) == {""}
    kinds = json.loads((folder / "metrics.json").read_text())["kinds"]
    assert set(kinds["scores"]) == set(KINDS)
    assert kinds["left_out"] is True
    assert json.loads((workspace / "experiments" / "tiny" / "metrics.json").read_text())["kinds"]["left_out"] is False
    before = (folder / "metrics.json").read_bytes()
    assert invoke("score", "--experiment", "unseen").code == 0
    assert (folder / "metrics.json").read_bytes() == before

    answer = invoke("leaderboard")
    assert (answer.code, answer.err) == (0, "")
    assert "tiny and unseen differ in their folds alone: AUC " in answer.out
    assert " on kinds of fakes that were left out (" in answer.out
    table = pd.read_csv(workspace / "experiments" / "leaderboard.csv").set_index("experiment")
    assert table.left_out_auc["unseen"] == pytest.approx(kinds["mean"]["auc"])
    assert table.worst_kind_auc["unseen"] == pytest.approx(kinds["scores"][kinds["worst"]]["auc"])
    assert pd.isna(table.oof_auc["unseen"])
    assert pd.isna(table.left_out_auc["tiny"])
    assert list(table.index) == ["tiny", "unseen"]

    answer = invoke("ensemble-submit", "--experiment", "unseen", "--data", str(root))
    assert answer.code == 0, answer.err
    assert invoke("report", "--experiment", "unseen").code == 0
    content = (workspace / "exports" / "unseen" / "report.html").read_text()
    assert "unseen: AUC by kind of fake, by networks that have never seen this kind" in content
    for kind in KINDS:
        (row,) = re.findall(rf'<span class="thumbs">([^\n]*)</span><span class="number">{kind}</span></th>', content)
        assert 1 <= row.count("data:image/webp") <= 4
    assert '<option value="kind">kind of fake</option>' in content


def test_a_kind_that_changes_after_the_start_is_refused(root: Path, invoke: Invoke) -> None:
    assert invoke("train-folds", "--experiment", "unseen", "--data", str(root), "--folds", "0").code == 0
    path = root / "families.csv"
    path.write_text(path.read_text().replace("editing", "edited"))
    answer = invoke("train-folds", "--experiment", "unseen", "--data", str(root))
    assert answer.code == 1
    assert "has another kind" in answer.err
    assert "to assign folds again, invoke train-folds --restart" in answer.err


def test_too_few_kinds_end_a_training_before_it_starts(workspace: Path, root: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "unseen" / "config.toml"
    config.write_text(config.read_text().replace("k = 3", "k = 4"))
    answer = invoke("train-folds", "--experiment", "unseen", "--data", str(root))
    assert answer.code == 1
    assert answer.err == (
        "error: folds.k = 4 needs at least 4 kinds of fakes, one for each fold; there are 3: editing, swap, talking\n"
        "next: set folds.k = 3 in config.toml\n"
    )
    assert not (workspace / "experiments" / "unseen" / "folds.csv").exists()


def test_pairs_are_trained_together_and_stay_in_one_fold(workspace: Path, root: Path, invoke: Invoke) -> None:
    labels = pd.read_csv(root / "trainset_label.txt")
    reals = labels.img_name[labels.target == 0].tolist()
    fakes = labels.img_name[labels.target == 1].tolist()
    pd.DataFrame({"img_name": fakes, "made_of": reals}).to_csv(root / "attributes.csv", index=False)
    config = workspace / "experiments" / "tiny" / "config.toml"
    paired = RECIPE.replace('sampling = "all"', 'sampling = "paired"')
    config.write_text(paired)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(root))
    assert answer.err == (
        "error: train.sampling = 'paired' needs the real image of each fake, and no column has it\n"
        "next: name the column with data.pair_column, or set another train.sampling, in config.toml\n"
    )
    config.write_text(f'{paired}[data]\npair_column = "made_of"\n')
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(root), "--folds", "0")
    assert answer.code == 0, answer.err
    folds = pd.read_csv(workspace / "experiments" / "tiny" / "folds.csv").set_index("img_name").fold
    assert folds[fakes].tolist() == folds[reals].tolist()
    pd.DataFrame({"img_name": fakes, "made_of": reals[::-1]}).to_csv(root / "attributes.csv", index=False)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(root))
    assert answer.code == 1
    assert "another real image of its pair" in answer.err


def test_trials_are_judged_by_all_kinds_that_are_left_out(workspace: Path, root: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "unseen" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 1", "epochs = 3"))
    words = (
        "sweep",
        "--experiment",
        "unseen",
        "--data",
        str(root),
        "--judge",
        "ood",
        "--set",
        "train.lr=1e-3,3e-3,1e-2",
    )
    answer = invoke(*words)
    assert answer.code == 0, answer.err
    assert "sweep of unseen on the 3 folds of left-out kinds: compared after 1, 3 epochs" in answer.out
    table = pd.read_csv(workspace / "experiments" / "unseen" / "sweep.csv").set_index("experiment")
    assert table.auc_after_3.notna().sum() == 1
    best = table.auc_after_3.idxmax()
    histories = [pd.read_csv(workspace / "experiments" / best / f"fold_{fold}" / "history.csv") for fold in range(3)]
    for epochs in (1, 3):
        mean = sum(history.heldout_auc[epochs - 1] for history in histories) / 3
        assert table[f"auc_after_{epochs}"][best] == pytest.approx(mean)
    before = table.to_csv()
    assert invoke(*words).code == 0
    assert pd.read_csv(workspace / "experiments" / "unseen" / "sweep.csv").set_index("experiment").to_csv() == before


def test_a_learning_rate_is_judged_by_kinds_that_are_left_out(workspace: Path, root: Path, invoke: Invoke) -> None:
    words = ("find-lr", "--experiment", "unseen", "--data", str(root), "--steps", "30")
    answer = invoke(*words)
    assert answer.code == 0, answer.err
    path = workspace / "experiments" / "unseen" / "find_lr.csv"
    by_training = pd.read_csv(path)
    answer = invoke(*words, "--judge", "ood")
    assert answer.code == 0, answer.err
    assert "90 steps" in answer.out
    by_kinds = pd.read_csv(path)
    rows = min(map(len, (by_kinds, by_training)))
    assert by_kinds.lr[:rows].tolist() == by_training.lr[:rows].tolist()
    assert (by_kinds.loss[:rows] - by_training.loss[:rows]).abs().max() > 0.01
    answer = invoke("find-lr", "--experiment", "tiny", "--judge", "ood")
    assert "needs folds that leave kinds of fakes out" in answer.err


@pytest.mark.parametrize(
    ("experiment", "judge", "message"),
    [
        (
            "tiny",
            "ood",
            "error: --judge ood needs folds that leave kinds of fakes out, and folds.scheme is 'stratified'\n"
            "next: set folds.scheme = 'leave-kind-out' in config.toml, or omit --judge\n",
        ),
        ("unseen", "all", "error: --judge all: known: heldout, ood\nnext: pass --judge heldout\n"),
    ],
)
@pytest.mark.usefixtures("root")
def test_a_judge_that_there_is_not_is_refused(experiment: str, judge: str, message: str, invoke: Invoke) -> None:
    answer = invoke("sweep", "--experiment", experiment, "--judge", judge, "--set", "train.lr=1e-3,3e-3")
    assert (answer.code, answer.err) == (1, message)

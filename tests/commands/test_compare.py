"""Comparing scores, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY, Invoke, skip_export_trial


@pytest.fixture
def trained(workspace: Path, competition: Path, invoke: Invoke) -> Path:
    """Two experiments that differ in their learning rate, and one with other folds; the folder of experiments."""
    folder = workspace / "experiments"
    configs = {"tiny": TINY, "other": TINY.replace("lr = 3e-3", "lr = 1e-3"), "thirds": TINY.replace("k = 2", "k = 3")}
    for name, config in configs.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.toml").write_text(config.replace("epochs = 3", "epochs = 1"))
        skip_export_trial(workspace, name)
        answer = invoke("train-folds", "--experiment", name, "--data", str(competition))
        assert answer.code == 0, answer.err
    return folder


def write(path: Path, img_name: object, y_pred: object, **more: object) -> Path:
    pd.DataFrame({"img_name": img_name, "y_pred": y_pred, **more}).to_csv(path, index=False)
    return path


def test_experiments_and_files_are_compared(trained: Path, competition: Path, tmp_path: Path, invoke: Invoke) -> None:
    answer = invoke("compare", "tiny", "other")
    assert answer.code == 0, answer.err
    assert "compare tiny with other: out-of-fold scores of 64 training images" in answer.out
    answer = invoke("compare", "tiny", "thirds")
    assert "their folds differ: compared by the ranks of the scores within each experiment's folds" in answer.out

    oof = pd.read_csv(trained / "tiny" / "oof.csv")
    noise = oof.target + np.random.default_rng(0).normal(size=len(oof))
    file = write(tmp_path / "elsewhere.csv", oof.img_name, noise)
    answer = invoke("compare", str(file), "tiny", "--json")
    table = json.loads(answer.out)["tables"][0]
    assert table["columns"][3:5] == [str(file), "tiny"]
    swapped = json.loads(invoke("compare", "tiny", str(file), "--json").out)["tables"][0]
    assert swapped["rows"][0][3:5] == table["rows"][0][3:5][::-1]

    val = pd.read_csv(trained / "tiny" / "fold_0" / "val.csv")
    answer = invoke("compare", "tiny", str(write(tmp_path / "val.csv", val.img_name, 1 - val.y_pred)))
    assert "32 images of the validation split, the mean of the folds' networks" in answer.out

    one = write(tmp_path / "one.csv", oof.img_name, noise)
    two = write(tmp_path / "two.csv", oof.img_name, 0.1 * noise + oof.target)
    answer = invoke("compare", str(one), str(two))
    assert answer.err == (
        f"error: the labels are unknown: neither {one} nor {two} has a column target\n"
        "next: pass --data FOLDER with the label files\n"
    )
    answer = invoke("compare", str(one), str(two), "--data", str(competition))
    assert "compare" in answer.out
    assert "64 images of the train split" in answer.out
    assert f"{two} is better than {one}: +" in answer.out
    labelled = write(tmp_path / "labelled.csv", oof.img_name, oof.target, target=oof.target)
    assert f"{one} is worse than {labelled}: -" in invoke("compare", str(labelled), str(one)).out


def test_what_cannot_be_compared_is_refused(trained: Path, tmp_path: Path, invoke: Invoke) -> None:
    oof = pd.read_csv(trained / "tiny" / "oof.csv")
    short = write(tmp_path / "short.csv", oof.img_name[3:], oof.y_pred[3:])
    answer = invoke("compare", "tiny", str(short))
    assert answer.code == 1
    assert answer.err.startswith(f"error: {short} lacks images that tiny has scored\n")
    assert f"not in the file: 3 images, such as {oof.img_name[0]}" in answer.err
    answer = invoke("compare", "tiny", "nothing")
    assert answer.err.startswith(
        "error: nothing is neither a file nor an experiment\nnext: name a CSV or one of these: "
    )
    (trained / "other" / "oof.csv").unlink()
    answer = invoke("compare", "tiny", "other")
    assert (answer.code, answer.err.splitlines()[0]) == (1, "error: experiment other has no out-of-fold scores yet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("img_name,y_pred\na.jpg,x\n", "a.csv line 2: the score 'x' is not a finite number"),
        ("img_name,y_pred\na.jpg,inf\n", "a.csv line 2: the score 'inf' is not a finite number"),
        ("img_name,y_pred\na.jpg,1\na.jpg,2\n", "a.csv line 3: a.jpg is listed already"),
        ("img_name,y_pred,target\na.jpg,1,7\n", "a.csv line 2: label '7' "),
        ("img_name,y_pred\na.jpg\n", "a.csv line 2: 1 field, the header has 2"),
        ("img_name,y_pred\n", "a.csv has no rows"),
        ("img_name,one,two\na.jpg,1,2\n", "a.csv line 1: it is unclear which column has the scores"),
        ("one,two\nx,y\n", "a.csv line 1: it is unclear which column has the images"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_bad_rows_of_a_score_file_are_named(text: str, message: str, tmp_path: Path, invoke: Invoke) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    answer = invoke("compare", str(path), str(path))
    assert answer.code == 1
    assert message in answer.err
    assert "Traceback" not in answer.err

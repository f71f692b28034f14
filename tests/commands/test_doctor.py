"""invoke doctor, and what train-folds makes of what it finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from ffdi.commands import leaderboard
from ffdi.demo import portraits
from tests.conftest import TINY, Invoke

WORDS = ["--experiment", "tiny", "--data"]


@pytest.fixture
def data(competition: Path, tmp_path: Path) -> Path:
    """The competition, to be changed."""
    shutil.copytree(competition, tmp_path / "data")
    return tmp_path / "data"


def labels(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "trainset_label.txt")


def plant(data: Path, source: str, target: str, quality: int | None = None) -> None:
    """Puts a copy of one image in the place of another: its bytes, or compressed again."""
    if quality is None:
        shutil.copyfile(data / source, data / target)
    else:
        cv2.imwrite(str(data / target), cv2.imread(str(data / source)), [cv2.IMWRITE_JPEG_QUALITY, quality])


def test_a_sound_data_set_is_described(workspace: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("doctor", *WORDS, str(competition))
    assert (answer.code, answer.err) == (0, "")
    assert "no two images show the same picture\n" in answer.out
    assert "are not used" not in answer.out
    assert answer.out.endswith(f"doctor.json\nnext: invoke train-folds --experiment tiny --data {competition}\n")
    report = json.loads((workspace / "experiments" / "tiny" / "doctor.json").read_text())
    assert (report["splits"]["train"]["images"], report["faults"]) == (64, [])
    assert report["splits"]["test"]["sizes"] == {"40 x 40": 20}


@pytest.mark.usefixtures("workspace")
def test_images_that_no_label_file_lists_are_counted(data: Path, invoke: Invoke) -> None:
    lines = (data / "trainset_label.txt").read_text().splitlines(keepends=True)
    (data / "trainset_label.txt").write_text("".join(lines[:-3]))
    shutil.copytree(data / "trainset", data / "trainset" / "more")
    unlisted = sorted(line.partition(",")[0] for line in lines[-3:])
    line = f"67 of 128 images in trainset/ are not in trainset_label.txt, and are not used: {unlisted[0]}, ...\n"
    assert line in invoke("doctor", *WORDS, str(data), "--accept", "leaks").out
    shutil.rmtree(data / "trainset" / "more")
    for name in unlisted[:2]:
        (data / "trainset" / name).unlink()
    answer = invoke("train-folds", *WORDS, str(data), "--folds", "0")
    line = f"\n1 of 62 images in trainset/ are not in trainset_label.txt, and are not used: {unlisted[2]}\n"
    assert line in answer.out


def test_faults_are_refused_by_both_commands_and_accepted_by_name(workspace: Path, data: Path, invoke: Invoke) -> None:
    rows = labels(data)
    real, fake = (rows[rows.target == label].img_name.tolist() for label in (0, 1))
    tested = pd.read_csv(data / "testset_nolabel.txt").img_name[0]
    plant(data, f"trainset/{real[0]}", f"trainset/{fake[0]}")
    plant(data, f"trainset/{real[1]}", f"testset/{tested}")
    (data / "trainset" / real[2]).write_bytes(b"")
    expected = (
        "error: the data would spoil a run: unusable, conflicts, leaks\n"
        "  unusable: 1 of 64 train images cannot be used\n"
        f"    {data}/trainset/{real[2]} is empty\n"
        "  conflicts: 1 picture with both labels\n"
        f"    {' = '.join(sorted([f'train/{real[0]} (real)', f'train/{fake[0]} (fake)']))}\n"
        "  leaks: 1 picture in more than one split\n"
        f"    train/{real[1]} (real) = test/{tested}\n"
        "next: mend the data, or accept known faults by adding --accept unusable,conflicts,leaks; "
        "docs/data.md describes the consequences\n"
    )
    for command in ("doctor", "train-folds"):
        answer = invoke(command, *WORDS, str(data))
        assert (answer.code, answer.err) == (1, expected)
    assert not (workspace / "experiments" / "tiny" / "folds.csv").exists()
    accept = ["--accept", "unusable,conflicts,leaks"]
    assert invoke("doctor", *WORDS, str(data), *accept).code == 0
    answer = invoke("train-folds", *WORDS, str(data), *accept)
    assert answer.code == 0, answer.err
    oof = pd.read_csv(workspace / "experiments" / "tiny" / "oof.csv").set_index("img_name")
    assert real[2] not in oof.index
    assert len(oof) == 63
    assert oof.fold[real[0]] == oof.fold[fake[0]]


def test_copies_of_one_picture_stay_in_one_fold(workspace: Path, data: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("epochs = 3", "epochs = 1"))
    rows = labels(data)
    real = rows[rows.target == 0].img_name.tolist()
    for number in range(0, 16, 2):
        picture = portraits.draw_portrait(np.random.default_rng(number), 160)[..., ::-1]
        cv2.imwrite(str(data / "trainset" / real[number]), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        plant(data, f"trainset/{real[number]}", f"trainset/{real[number + 1]}", quality=80 if number % 4 else None)
    accept = ["--accept", "shortcuts"]  # the portraits are larger files, and all of them real
    answer = invoke("train-folds", *WORDS, str(data), *accept)
    assert answer.code == 0, answer.err
    assignment = pd.read_csv(workspace / "experiments" / "tiny" / "folds.csv").set_index("img_name")
    for number in range(0, 16, 2):
        pair = assignment.loc[real[number : number + 2]]
        assert pair.fold.nunique() == 1
        assert pair.group.nunique() == 1
    scores = json.loads((workspace / "experiments" / "tiny" / "metrics.json").read_text())
    assert scores["interval_rule"].endswith("by whole groups")
    parted = (workspace / "experiments" / "tiny" / "folds.csv").read_text().replace(f"{real[0]},0", f"{real[0]},9")
    parted = parted.replace(f"{real[0]},1", f"{real[0]},0").replace(f"{real[0]},9", f"{real[0]},1")
    path = workspace / "experiments" / "tiny" / "folds.csv"
    path.write_text(parted)
    answer = invoke("train-folds", *WORDS, str(data), *accept)
    assert (answer.code, answer.err) == (
        1,
        f"error: {path} is damaged: its hash is not the one in resolved.json\n"
        "next: restore the file, or discard the trained folds: invoke train-folds --experiment tiny --restart "
        f"--data {data}\n",
    )
    (path.parent / "resolved.json").unlink()  # as with folds from another source
    answer = invoke("train-folds", *WORDS, str(data), *accept)
    assert answer.code == 1
    assert "is in more than one fold" in answer.err


def darken_fakes(data: Path) -> None:
    """Gives the training fakes a dark last column."""
    rows = labels(data)
    for name, target in zip(rows.img_name, rows.target, strict=True):
        pixels, size = cv2.imread(str(data / "trainset" / name)), (data / "trainset" / name).stat().st_size
        assert pixels is not None
        pixels[:, -1] = pixels[:, -1] // 4 if target else pixels[:, -1]
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        (data / "trainset" / name).write_bytes(content.ljust(size, b"\0"))


def test_images_are_measured_before_and_after_they_are_encoded_alike(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    path = workspace / "experiments" / "tiny" / "doctor.json"
    assert invoke("doctor", *WORDS, str(competition)).code == 0
    before = json.loads(path.read_text())
    assert "reencoded" not in before
    answer = invoke("doctor", *WORDS, str(competition), "--reencoded")
    assert (answer.code, answer.err) == (0, ""), answer.out
    assert "labels of 64 train images predicted without the forgery, as they are and re-encoded (32 px, JPEG 75)" in (
        answer.out
    )
    after = json.loads(path.read_text())
    found = after.pop("reencoded")
    assert {key: one for key, one in before.items() if key != "self_sha256"}.keys() <= after.keys()
    assert after["faults"] == []
    assert "yes" not in answer.out
    assert list(found) == ["train", "val"]  # the test split has no labels
    assert (found["train"]["images"], found["val"]["images"]) == (64, 32)
    predictors = found["train"]["predictors"]
    assert list(predictors) == ["bytes", "detail", "brightness", "edges", "encoding"]
    for name, one in predictors.items():
        assert 0 <= one["as they are"]["auc"] <= 1
        assert not one["shortcut"], name
    assert predictors["bytes"]["as they are"] == {
        key: before["shortcuts"]["train"]["bytes"][key] for key in ("auc", "interval")
    }


def test_a_border_of_one_class_is_a_fault_that_can_be_accepted(workspace: Path, data: Path, invoke: Invoke) -> None:
    darken_fakes(data)
    assert invoke("doctor", *WORDS, str(data)).code == 0
    answer = invoke("doctor", *WORDS, str(data), "--reencoded")
    assert answer.code == 1
    assert answer.err.startswith(
        "error: the data would spoil a run: shortcuts\n"
        "  shortcuts: traces of how the files were made predict the labels\n"
    )
    assert "    edges of the train images: AUC 1.000 (" in answer.err
    assert "; right 1 px\n" in answer.err
    assert answer.err.endswith("--accept shortcuts; docs/data.md describes the consequences\n")
    accepted = invoke("doctor", *WORDS, str(data), "--reencoded", "--accept", "shortcuts")
    assert (accepted.code, accepted.err) == (0, "")
    report = json.loads((workspace / "experiments" / "tiny" / "doctor.json").read_text())
    assert report["reencoded"]["train"]["predictors"]["edges"]["where"] == {"right": 1}
    assert [fault["kind"] for fault in report["faults"]] == ["shortcuts"]


@pytest.mark.parametrize(
    ("keep", "train"), [([0, 1], "0 real and 1 fake"), ([0], "32 real and 0 fake"), ([1], "0 real and 32 fake")]
)
def test_images_that_cannot_be_compared_are_refused_before_the_scan(
    keep: list[int], train: str, workspace: Path, data: Path, invoke: Invoke
) -> None:
    rows = labels(data)
    rows = rows[rows.target.isin(keep)]
    if len(keep) == 2:
        rows = rows[rows.target == 1].head(1)
    rows.to_csv(data / "trainset_label.txt", index=False)
    for name in ("valset", "testset"):
        shutil.rmtree(data / name)
    for name in ("valset_label.txt", "testset_nolabel.txt"):
        (data / name).unlink()
    answer = invoke("doctor", *WORDS, str(data), "--reencoded")
    assert (answer.code, answer.err) == (
        1,
        "error: --reencoded needs a split with at least 10 usable images of each class\n"
        f"  train: {train}\n"
        "next: run the doctor without --reencoded, or label more images\n",
    )
    assert not (workspace / "experiments" / "tiny" / "doctor.json").exists()


def test_images_are_decoded_once(
    workspace: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("doctor", *WORDS, str(competition)).code == 0
    before = (workspace / "experiments" / "tiny" / "doctor.json").read_bytes()
    monkeypatch.setattr(
        "ffdi.data.inspection.scan.inspect_image", lambda content: pytest.fail(f"{len(content)} bytes again")
    )
    assert invoke("doctor", *WORDS, str(competition)).code == 0
    assert (workspace / "experiments" / "tiny" / "doctor.json").read_bytes() == before


def test_folds_of_clusters_are_assigned_and_compared_with_random_ones(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    recipe = TINY.replace("epochs = 3", "epochs = 1")
    (workspace / "experiments" / "tiny" / "config.toml").write_text(recipe)
    (workspace / "experiments" / "unlike").mkdir()
    clusters = recipe.replace("k = 2", 'k = 2\nscheme = "clusters"')
    (workspace / "experiments" / "unlike" / "config.toml").write_text(clusters)
    for name in ("tiny", "unlike"):
        answer = invoke("train-folds", "--experiment", name, "--data", str(competition))
        assert answer.code == 0, answer.err
    assert "folds of clusters: 8 clusters of images that look alike to test_resnet" in answer.out
    answer = invoke("leaderboard")
    assert (answer.code, answer.err) == (0, "")
    assert "tiny and unlike differ in their folds alone: AUC " in answer.out
    table = pd.read_csv(workspace / "experiments" / "leaderboard.csv")
    assert set(table.folds) == {"2 stratified", "2 clusters"}
    assert table.oof_auc.is_monotonic_decreasing
    assert ((table.oof_low <= table.oof_auc) & (table.oof_auc <= table.oof_high)).all()
    assert (table.parameters > 1000).all()
    markdown = (workspace / "experiments" / "leaderboard.md").read_text().splitlines()
    assert len(markdown) == 4
    assert {line.count("|") for line in markdown} == {len(leaderboard.COLUMNS) + 1}


def test_a_leaderboard_of_nothing_trained_says_so(workspace: Path, invoke: Invoke) -> None:
    (workspace / "experiments" / "broken").mkdir()
    (workspace / "experiments" / "broken" / "config.toml").write_text("[modle]\n")
    answer = invoke("leaderboard")
    assert (answer.code, answer.err) == (0, "")
    table = pd.read_csv(workspace / "experiments" / "leaderboard.csv").set_index("experiment")
    assert table.state["tiny"] == "not trained"
    assert table.state["broken"].endswith("config.toml has 1 bad key")

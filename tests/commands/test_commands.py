"""The four main commands on a small competition: from start to end, again, and with errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from ffdi.commands.shared import reencoded
from ffdi.core import manifests
from ffdi.core.errors import ConfigError
from ffdi.data.loading.dataset import DISTORTIONS
from ffdi.export import onnx
from ffdi.training import predict
from tests.conftest import TINY, Invoke

Snapshot = Callable[[Path], dict[str, bytes]]


def test_every_file_is_written(trained: Path) -> None:
    folder = trained / "experiments" / "tiny"
    fold = {"history.csv", "weights.safetensors", "oof.csv", "val.csv", "manifest.json", "progress.json"}
    assert {path.name for path in (folder / "fold_0").iterdir()} == fold
    assert {path.name for path in (folder / "fold_1").iterdir()} == fold
    top = {"config.toml", "resolved.json", "provenance.json", "folds.csv", "images.csv", "oof.csv", "metrics.json"}
    top |= {"doctor.json"}
    assert {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")} == top
    assert {path.name for path in (trained / "exports" / "tiny").iterdir()} - {".lock"} == {
        "model.onnx",
        "bundle.json",
        "submission.csv",
        "submission.json",
        "onnx_scores.csv",
        "onnx_scores.json",
        "predict.py",
        "golden",
    }


def test_oof_has_exactly_one_row_for_each_training_image(trained: Path, competition: Path) -> None:
    oof = pd.read_csv(trained / "experiments" / "tiny" / "oof.csv")
    labels = pd.read_csv(competition / "trainset_label.txt")
    assert list(oof.columns) == ["img_name", "fold", "target", "logit", "y_pred", "weights"]
    assert oof[["img_name", "target"]].equals(labels)
    assert np.allclose(oof.y_pred, 1 / (1 + np.exp(-oof.logit)), atol=1e-8)
    folds = pd.read_csv(trained / "experiments" / "tiny" / "folds.csv")
    assert oof.fold.equals(folds.fold)


def test_metrics_can_be_computed_again_from_oof_csv(trained: Path) -> None:
    oof = pd.read_csv(trained / "experiments" / "tiny" / "oof.csv")
    metrics = json.loads((trained / "experiments" / "tiny" / "metrics.json").read_text())
    fake, real = oof.y_pred[oof.target == 1].to_numpy(), oof.y_pred[oof.target == 0].to_numpy()
    wins = (fake[:, None] > real).mean() + 0.5 * (fake[:, None] == real).mean()
    assert metrics["pooled"]["auc"] == pytest.approx(wins, abs=1e-12)
    assert metrics["pooled"]["accuracy"] == pytest.approx(((oof.y_pred > 0.5) == oof.target).mean(), abs=1e-12)
    assert set(metrics["folds"]) == {"0", "1"}


def test_scoring_again_gives_the_same_bytes_and_needs_no_images(copy: Path, invoke: Invoke) -> None:
    path = copy / "experiments" / "tiny" / "metrics.json"
    before = path.read_bytes()
    path.unlink()
    (copy / "experiments" / "tiny" / "provenance.json").unlink()
    answer = invoke("score", "--experiment", "tiny")
    assert (answer.code, answer.err) == (0, "")
    assert path.read_bytes() == before
    scores = json.loads(before)
    assert f"OOF, ranks within folds: AUC {scores['rank_normalised']['auc']:.4f}" in answer.out
    for one in (scores["pooled"], *scores["folds"].values()):
        assert all(low <= one[name] <= high for name, (low, high) in one["intervals"].items())


def test_changed_predictions_are_not_scored(copy: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    path = copy / "experiments" / "tiny" / "oof.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    before = snapshot(copy)
    answer = invoke("score", "--experiment", "tiny")
    assert answer.code == 1
    assert answer.err == (
        f"error: {path} is damaged: its hash is not the one in metrics.json\n"
        "next: merge it again from its finished folds: invoke train-folds --experiment tiny\n"
    )
    assert snapshot(copy) == before
    (path.parent / "metrics.json").unlink()
    answer = invoke("score", "--experiment", "tiny")
    assert answer.code == 1
    assert answer.err.startswith("error: the folds' predictions do not have each of the 64 training images once\n")


def test_what_was_never_trained_is_not_scored(workspace: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    before = snapshot(workspace)
    answer = invoke("score", "--experiment", "tiny")
    assert answer.code == 1
    assert answer.err == (
        "error: experiment tiny has no out-of-fold scores yet\nnext: invoke train-folds --experiment tiny\n"
    )
    assert snapshot(workspace) == before


def test_the_network_learned_what_the_images_show(trained: Path) -> None:
    metrics = json.loads((trained / "experiments" / "tiny" / "metrics.json").read_text())
    assert min(score["auc"] for score in metrics["folds"].values()) > 0.8


def test_the_submission_has_the_listed_images_in_the_lists_order(trained: Path, competition: Path) -> None:
    submission = pd.read_csv(trained / "exports" / "tiny" / "submission.csv")
    wanted = pd.read_csv(competition / "testset_nolabel.txt")
    assert list(submission.columns) == ["img_name", "y_pred"]
    assert submission.img_name.equals(wanted.img_name)
    assert submission.y_pred.between(0, 1).all()


def test_the_exact_validation_score_is_printed_beside_the_out_of_fold_score(trained: Path) -> None:
    output = (trained / "output.txt").read_text()
    record = json.loads((trained / "exports" / "tiny" / "submission.json").read_text())
    metrics = json.loads((trained / "experiments" / "tiny" / "metrics.json").read_text())
    assert "scores on the val split, without TTA" in output
    assert f"│ ensemble             │ {record['scores']['val']['ensemble']['auc']:.4f} │" in output
    assert f"│ tiny: OOF, pooled    │ {metrics['pooled']['auc']:.4f} │" in output


def test_plain_output_has_no_escape_codes(trained: Path) -> None:
    assert "\x1b" not in (trained / "output.txt").read_text()


def test_training_again_with_two_workers_gives_the_same_bytes(
    trained: Path, workspace: Path, competition: Path, invoke: Invoke
) -> None:
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--workers", "2")
    assert answer.code == 0, answer.err
    for name in ("oof.csv", "folds.csv", "metrics.json", "fold_0/weights.safetensors", "fold_1/oof.csv"):
        again = (workspace / "experiments" / "tiny" / name).read_bytes()
        assert again == (trained / "experiments" / "tiny" / name).read_bytes(), name


def test_a_training_with_augmentation_on_the_device_gives_the_same_bytes_with_any_number_of_workers(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    folder = workspace / "experiments" / "tiny"
    path = folder / "config.toml"
    path.write_text(path.read_text().replace('recipe = "flips"', 'recipe = "strong"\ndevice = true'))
    train = ("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds", "0")
    results = set()
    for workers in ("0", "2"):
        answer = invoke(*train, "--workers", workers, "--restart")
        assert answer.code == 0, answer.err
        results.add(tuple((folder / "fold_0" / name).read_bytes() for name in ("weights.safetensors", "oof.csv")))
    whole = path.read_text()
    path.write_text(whole.replace("device = true", "device = true\ndecode = 'device'"))
    answer = invoke(*train, "--workers", "2", "--restart")  # on a CPU by the same decoder
    assert answer.code == 0, answer.err
    results.add(tuple((folder / "fold_0" / name).read_bytes() for name in ("weights.safetensors", "oof.csv")))
    assert len(results) == 1
    path.write_text(whole)
    assert invoke(*train, "--restart").code == 0
    path.write_text(path.read_text().replace("device = true", "device = false"))
    answer = invoke(*train)
    assert (answer.code, "augment.device: True -> False" in answer.err) == (1, True)
    answer = invoke(*train, "--restart")
    assert answer.code == 0, answer.err
    results.add(tuple((folder / "fold_0" / name).read_bytes() for name in ("weights.safetensors", "oof.csv")))
    assert len(results) == 2


def test_a_fold_trained_alone_gives_the_same_bytes(
    trained: Path, workspace: Path, competition: Path, invoke: Invoke
) -> None:
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds", "1")
    assert answer.code == 0, answer.err
    assert "still to train: fold 0; out-of-fold scores need all 2" in answer.out
    folder = workspace / "experiments" / "tiny"
    assert not (folder / "oof.csv").exists()
    alone = (folder / "fold_1" / "oof.csv").read_bytes()
    assert alone == (trained / "experiments" / "tiny" / "fold_1" / "oof.csv").read_bytes()
    answer = invoke("ensemble-submit", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        "error: experiment tiny is not complete; still to train: fold 0\nnext: invoke train-folds --experiment tiny\n",
    )


def test_finished_folds_are_kept(copy: Path, competition: Path, invoke: Invoke) -> None:
    weights = copy / "experiments" / "tiny" / "fold_0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 0, answer.err
    assert "fold 0: finished before, kept\nfold 1: finished before, kept" in answer.out
    assert weights.stat().st_mtime_ns == before


def test_a_changed_config_is_refused_and_restart_starts_again(copy: Path, competition: Path, invoke: Invoke) -> None:
    folder = copy / "experiments" / "tiny"
    (folder / "config.toml").write_text(TINY.replace("lr = 3e-3", "lr = 1e-3").replace("epochs = 3", "epochs = 1"))
    words = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    answer = invoke(*words)
    assert (answer.code, answer.err) == (
        1,
        "error: experiment tiny was started with another config or other images; its folds would not match\n"
        "  train.epochs: 3 -> 1\n"
        "  train.lr: 0.003 -> 0.001\n"
        "next: undo the change, or train a new experiment: invoke train-folds --experiment tiny --as tiny-2 --data "
        f"{competition}; to discard the trained folds instead: invoke train-folds --experiment tiny --restart --data "
        f"{competition}\n",
    )
    without = answer.err.replace(f" --data {competition}", "")
    assert invoke("ensemble-submit", "--experiment", "tiny").err == without
    assert invoke(*words, "--restart").code == 0
    assert len(pd.read_csv(folder / "fold_0" / "history.csv")) == 1


def test_changed_images_are_refused(copy: Path, competition: Path, tmp_path: Path, invoke: Invoke) -> None:
    data = tmp_path / "changed"
    shutil.copytree(competition, data)
    first, second = sorted((data / "trainset").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(data))
    assert (answer.code, answer.err) == (
        1,
        "error: experiment tiny was started with another config or other images; its folds would not match\n"
        f"  {first.name} other bytes\n"
        "next: undo the change, or train a new experiment: invoke train-folds --experiment tiny --as tiny-2 --data "
        f"{data}; to discard the trained folds instead: invoke train-folds --experiment tiny --restart --data {data}\n",
    )
    (copy / "experiments" / "tiny" / "images.csv").write_text("img_name\n")
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(data))
    damaged = f"{copy}/experiments/tiny/images.csv is missing or damaged"
    assert answer.err.splitlines()[1] == f"  training images or labels; the changed ones are unknown: {damaged}"


def test_damaged_weights_are_refused(copy: Path, invoke: Invoke) -> None:
    path = copy / "experiments" / "tiny" / "fold_0" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    answer = invoke("export-onnx", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        f"error: {path} is damaged: its hash is not the one in manifest.json\n"
        f"next: remove the fold and train it again: rm -r {path.parent}\n",
    )


def test_the_validation_split_is_submitted_where_there_is_no_test(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    phase1 = tmp_path / "phase1"
    shutil.copytree(competition, phase1, ignore=shutil.ignore_patterns("testset*"))
    names = pd.read_csv(phase1 / "valset_label.txt").img_name[::-1]
    (phase1 / "prediction.txt.csv").write_text("img_name,y_pred\n" + "".join(f"{name},0.5\n" for name in names))
    answer = invoke("ensemble-submit", "--experiment", "tiny", "--data", str(phase1))
    assert answer.code == 0, answer.err
    assert "scores on the val split, without TTA" in answer.out
    submission = pd.read_csv(copy / "exports" / "tiny" / "submission.csv")
    assert submission.img_name.tolist() == names.tolist()


def test_a_template_with_other_images_is_refused(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    data = tmp_path / "data"
    shutil.copytree(competition, data)
    names = pd.read_csv(data / "testset_nolabel.txt").img_name.tolist()
    rows = ["img_name,y_pred", *(f"{name},0" for name in names[1:]), "new.jpg,0"]
    (data / "prediction.txt").write_text("\n".join(rows) + "\n")
    before = snapshot(copy / "exports")
    answer = invoke("ensemble-submit", "--experiment", "tiny", "--data", str(data))
    assert (answer.code, answer.err) == (
        1,
        "error: the submission is refused: 2 faults in 20 scores\n"
        "  new.jpg is missing\n"
        f"  {names[0]} is not wanted\n"
        "next: nothing was written; check the list of test images and the template under the data folder\n",
    )
    assert snapshot(copy / "exports") == before


def test_an_experiment_below_chance_is_not_submitted(copy: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    path = copy / "experiments" / "tiny" / "metrics.json"
    scores = json.loads(path.read_text())
    for score in scores["folds"].values():
        score["auc"], score["intervals"]["auc"] = 0.25, [0.1, 0.4]
    manifests.write_manifest(
        path, {key: value for key, value in scores.items() if key not in ("schema", manifests.DIGEST)}
    )
    before = snapshot(copy / "exports")
    answer = invoke("ensemble-submit", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        "error: the submission is refused: 1 fault in 20 scores\n"
        "  experiment tiny has the mean AUC 0.25 over its folds, below 0.5 beyond chance: its labels are inverted\n"
        "next: nothing was written; set target 1 for fakes in the labels, then train again: "
        "invoke train-folds --restart --experiment tiny\n",
    )
    assert snapshot(copy / "exports") == before


# --- shift, stress, blends that are refused, budgets ---------------------------------------------------------------


def test_stress_says_how_the_score_holds(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--stress")
    assert (answer.code, answer.err) == (0, "")
    stress = json.loads((copy / "experiments" / "tiny" / "stress.json").read_text())
    oof = json.loads((copy / "experiments" / "tiny" / "metrics.json").read_text())
    assert stress["images"] == 64
    assert stress["auc"] == pytest.approx(np.mean([fold["auc"] for fold in oof["folds"].values()]), abs=1e-12)
    assert {"JPEG quality 30", "quarter size", "noise of 10 grey levels"} < set(stress["distortions"])
    assert stress["mean_auc"] == pytest.approx(np.mean([row["auc"] for row in stress["distortions"].values()]))
    assert "│ JPEG quality 90" in answer.out


def test_reencoded_says_what_came_from_the_encoding(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--reencoded")
    assert (answer.code, answer.err) == (0, "")
    folder = copy / "experiments" / "tiny"
    found = json.loads((folder / "reencoded.json").read_text())
    oof = json.loads((folder / "metrics.json").read_text())
    assert (found["images"], found["size"], found["quality"]) == (64, 32, 75)
    assert found["auc"] == pytest.approx(np.mean([fold["auc"] for fold in oof["folds"].values()]), abs=1e-12)
    assert found["difference"] == pytest.approx(found["reencoded_auc"] - found["auc"])
    assert reencoded.describe(found["difference"], found["interval"]) + "\n" in answer.out
    assert f"written: {folder}/reencoded.json\n" in answer.out
    assert not (folder / "stress.json").exists()
    shown = invoke("report", "--experiment", "tiny")
    assert shown.code == 0, shown.err
    page = (copy / "exports" / "tiny" / "report.html").read_text()
    assert "AUC of images that are encoded alike" in page


@pytest.mark.parametrize(
    ("difference", "interval", "sentence"),
    [
        (-0.12, (-0.2, -0.05), "0.1200 of the AUC came from the encoding of the files, or from fine detail that JPEG"),
        (
            -0.01,
            (-0.03, 0.01),
            "the AUC did not come from the encoding of the files, as far as is known: at most 0.0300",
        ),
        (0.03, (0.01, 0.05), "the AUC did not come from the encoding of the files, as far as is known: at most 0.0000"),
        (-0.3, None, "the AUC changes by -0.3000; there is no interval, because there are too few images"),
    ],
)
def test_the_sentence_depends_on_the_interval(
    difference: float, interval: tuple[float, float] | None, sentence: str
) -> None:
    assert reencoded.describe(difference, interval).startswith(sentence)


def test_shift_compares_splits_and_kinds_of_images(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    data = tmp_path / "data"
    shutil.copytree(competition, data)
    labels = pd.read_csv(data / "trainset_label.txt")
    labels["family"] = np.where(labels.target == 0, "real", np.where(labels.index % 3 == 0, "swap", "talking"))
    labels.to_csv(data / "trainset_label.txt", index=False)
    for path in (data / "valset").iterdir():  # another camera: all of them green
        image = cv2.imread(str(path)) // 2
        cv2.imwrite(str(path), image + np.array([0, 120, 0], np.uint8))
    answer = invoke("score", "--experiment", "tiny", "--shift", "--data", str(data))
    assert (answer.code, answer.err) == (0, "")
    shift = json.loads((copy / "experiments" / "tiny" / "shift.json").read_text())
    apart = {tuple(pair["splits"]): pair["auc"] for pair in shift["splits"]}
    assert apart["train", "val"] > 0.95
    assert apart["train", "test"] < 0.8
    families = {part["value"]: (part["against"], part["fake"]) for part in shift["slices"]["family"]}
    assert families["swap"][0] == families["talking"][0] == "all real"
    assert sum(fake for _, fake in families.values()) == 32
    assert {"brightness", "compression", "looks"} < set(shift["slices"])
    assert "size" not in shift["slices"]  # all images are of one size


def test_experiments_of_other_folds_are_not_blended(copy: Path, competition: Path, invoke: Invoke) -> None:
    other = copy / "experiments" / "other"
    other.mkdir()
    (other / "config.toml").write_text(TINY.replace("seed = 3", "seed = 4").replace("epochs = 3", "epochs = 1"))
    words = ["--experiment", "other", "--data", str(competition)]
    assert invoke("train-folds", *words).code == 0
    answer = invoke("ensemble-submit", "--experiment", "tiny", "--experiment", "other")
    assert answer.code == 1
    assert answer.err.startswith("error: tiny and other were not trained on the same images in the same folds")
    (other / "config.toml").write_text(
        TINY.replace("seed = 3", "seed = 4").replace("epochs = 3", "epochs = 1").replace("k = 2", "k = 2\nseed = 3")
    )
    assert invoke("train-folds", *words, "--restart").code == 0
    answer = invoke("ensemble-submit", "--experiment", "tiny", "--experiment", "other")
    assert answer.code == 0, answer.err
    assert "ways to combine the experiments" in answer.out
    record = json.loads((copy / "exports" / "tiny+other" / "submission.json").read_text())
    assert [row["method"] for row in record["nested"]] == ["mean", "logit_mean", "rank_mean", "greedy", "stacking"]
    assert sum(row["chosen"] for row in record["nested"]) == 1


def test_predictions_of_other_weights_are_not_scored(copy: Path, invoke: Invoke) -> None:
    path = copy / "experiments" / "tiny" / "oof.csv"
    content = pd.read_csv(path, dtype=str)
    content.loc[content.fold == "1", "weights"] = "0123456789ab"
    content.to_csv(path, index=False)
    (path.parent / "metrics.json").unlink()  # it has the hash of the old file
    answer = invoke("score", "--experiment", "tiny")
    expected = f"error: {path} has predictions of fold 1 with other weights than those in {path.parent}/fold_1\nnext: "
    assert (answer.code, answer.err.startswith(expected)) == (1, True)


def test_a_training_that_leads_nowhere_says_so(workspace: Path, competition: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("lr = 3e-3", "lr = 1e-9").replace("ema_decay = 0.9", "ema_decay = 0.0"))
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 0, answer.err
    assert "fold 0  unhealthy: " in answer.out
    assert "fold 0  advice: lower train.lr (try 1e-10), raise train.warmup_epochs, or train longer\n" in answer.out
    assert invoke("leaderboard").code == 0
    (state,) = pd.read_csv(workspace / "experiments" / "leaderboard.csv").state
    assert state in (
        "at_chance",
        "majority_class",
        "at_chance, majority_class",
    )  # by where the random weights put its scores


def test_a_network_that_cannot_be_exported_is_named_before_its_training(
    workspace: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 1").replace("size = 32", "size = 40"))
    tried = []

    def refuse(_network: object, size: int) -> None:
        tried.append(size)
        raise ConfigError("torch cannot export this network to ONNX: no operator for it")

    monkeypatch.setattr(onnx, "check_exportable", refuse)
    trying = "trying to export test_resnet to ONNX, once before its first training\n"
    warning = (
        "warning: test_resnet: torch cannot export this network to ONNX: no operator for it; "
        "train-folds and ensemble-submit do not need ONNX\n"
    )
    words = ("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds")
    first, second = invoke(*words, "0"), invoke(*words, "1")
    assert (first.code, second.code, tried) == (0, 0, [40])
    assert f"\n{trying}{warning}" in first.out
    assert first.out.index(warning) < first.out.index("fold 0  epoch  1/1")
    assert "trying" not in second.out
    assert f"\n{warning}" in second.out


def test_a_training_continues_if_there_is_no_memory_to_try_the_export(
    workspace: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / "data")

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.onnx, "export", fail)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds", "0")
    assert (answer.code, answer.err) == (0, "")
    assert "warning: there is too little memory to export test_resnet here; the training continues\n" in answer.out
    assert not (workspace / "data" / "exportable").exists()


@pytest.mark.usefixtures("copy")
def test_the_export_is_tried_once(trained: Path, competition: Path, invoke: Invoke) -> None:
    trying = "trying to export test_resnet to ONNX, once before its first training\n"
    assert f"\n{trying}" in (trained / "output.txt").read_text()
    assert trying not in invoke("train-folds", "--experiment", "tiny", "--data", str(competition)).out


def test_an_interrupted_stress_run_goes_on(copy: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["score", "--experiment", "tiny", "--stress"]
    folder = copy / "experiments" / "tiny"
    assert invoke(*words).code == 0
    expected = (folder / "stress.json").read_bytes()
    (folder / "stress.json").unlink()
    predict_logits, calls = predict.predict_logits, list[int]()

    def stop_after_five(*given: Any) -> Any:
        calls.append(0)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return predict_logits(*given)

    monkeypatch.setattr(predict, "predict_logits", stop_after_five)
    assert invoke(*words).code == 130
    assert len(list((folder / "distorted").iterdir())) == 5
    calls.clear()
    monkeypatch.setattr(predict, "predict_logits", lambda *given: calls.append(0) or predict_logits(*given))
    assert invoke(*words).code == 0
    assert len(calls) == 2 * (1 + len(DISTORTIONS)) - 5
    assert (folder / "stress.json").read_bytes() == expected
    assert not (folder / "distorted").exists()

"""From trained folds to one graph and its scores, as a person calls them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from ffdi.experiments import experiment
from ffdi.export import equivalence
from tests.conftest import PROJECT, TINY, Invoke, reseal

Snapshot = Callable[[Path], dict[str, bytes]]
BOTH = ("--experiment", "tiny", "--experiment", "other")


def exported(invoke: Invoke, *words: str) -> None:
    """Submission, graph and the graph's scores."""
    for command, flags in (
        ("ensemble-submit", []),
        ("export-onnx", ["--runtimes", "cpu"]),
        ("predict-onnx", ["--device", "cpu"]),
    ):
        answer = invoke(command, *words, *flags)
        assert answer.code == 0, answer.err


def check_equal(folder: Path) -> pd.Series:
    """The graph's scores are the submission's; gives them."""
    submission, scores = (pd.read_csv(folder / name) for name in ("submission.csv", "onnx_scores.csv"))
    assert scores.img_name.equals(submission.img_name)
    assert (scores.y_pred - submission.y_pred).abs().max() <= 1e-5
    assert np.ptp(scores.y_pred) > 1e-3
    return scores.y_pred


def bundle(folder: Path) -> dict:
    """What the export says of itself."""
    return json.loads((folder / "bundle.json").read_text())


def test_onnx_gives_the_submissions_scores(trained: Path) -> None:
    check_equal(trained / "exports" / "tiny")


def test_the_bundle_says_what_a_server_needs(trained: Path) -> None:
    described = bundle(trained / "exports" / "tiny")
    assert described["input"]["shape"] == ["batch", 32, 32, 3]
    assert [(one["experiment"], one["network"], one["weight"]) for one in described["members"]] == [
        ("tiny", "fold 0", 0.5),
        ("tiny", "fold 1", 0.5),
    ]
    assert (described["precision"], described["soup"]) == ("fp32", False)
    for name, runs in (("cpu", "CPUExecutionProvider"), ("openvino", "OpenVINO CPU f32")):
        record = described["runtimes"][name]
        assert (record["provider"], record["limit"]) == (runs, 1e-5)
        assert set(record["largest_difference"]) == {"1", "7", "32", "last, partial"}
        assert max(record["largest_difference"].values()) <= 1e-5


def test_the_graph_says_what_it_is(trained: Path) -> None:
    model = onnx.load(trained / "exports" / "tiny" / "model.onnx")
    words = {entry.key: entry.value for entry in model.metadata_props}
    members = bundle(trained / "exports" / "tiny")["members"]
    assert words["y_pred"] == "probability that the face is fake"
    assert "uint8 [batch, 32, 32, 3]" in words["images"]
    assert "area when shrinking, cubic when growing" in words["images"]
    assert words["members"] == "; ".join(
        f"tiny {one['network']}: test_resnet, 32 px, {one['weights_sha256']}" for one in members
    )
    metrics = json.loads((trained / "experiments" / "tiny" / "metrics.json").read_text())
    assert words["oof_auc"] == f"AUC tiny {metrics['pooled']['auc']:.4f} (OOF, pooled)"


def test_what_really_ran_is_printed_and_written(trained: Path) -> None:
    assert "runs on: CPUExecutionProvider (ONNX Runtime on the CPU, 1 x " in (trained / "output.txt").read_text()
    record = json.loads((trained / "exports" / "tiny" / "onnx_scores.json").read_text())
    assert (record["runtime"], record["provider"], record["rows"]) == ("cpu", "CPUExecutionProvider", 20)
    assert record["model"] == bundle(trained / "exports" / "tiny")["files"]["model.onnx"]
    assert record["cannot be used"] == {"score": None, "images": []}


def test_two_experiments_are_blended(copy: Path, invoke: Invoke) -> None:
    shutil.copytree(copy / "experiments" / "tiny", copy / "experiments" / "other")
    exported(invoke, *BOTH)
    alone = pd.read_csv(copy / "exports" / "tiny" / "submission.csv")
    assert np.allclose(check_equal(copy / "exports" / "tiny+other"), alone.y_pred, atol=1e-7)
    assert len(bundle(copy / "exports" / "tiny+other")["members"]) == 4


def test_experiments_of_several_sizes_share_a_graph(copy: Path, competition: Path, invoke: Invoke) -> None:
    (copy / "experiments" / "other").mkdir()
    (copy / "experiments" / "other" / "config.toml").write_text(TINY.replace("size = 32", "size = 40"))
    assert invoke("train-folds", "--experiment", "other", "--data", str(competition)).code == 0
    exported(invoke, *BOTH)
    check_equal(copy / "exports" / "tiny+other")
    described = bundle(copy / "exports" / "tiny+other")
    assert described["input"]["shape"] == ["batch", 40, 40, 3]
    assert described["runtimes"]["cpu"]["gate"]["split"] == "val"  # tiny's images were made smaller another way
    nodes = [node.name for node in onnx.load(copy / "exports" / "tiny+other" / "model.onnx").graph.node]
    assert "images/MatMul" in nodes


def test_flip_tta_is_in_the_graph_too(workspace: Path, competition: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace('tta = "none"', 'tta = "hflip"'))
    assert invoke("train-folds", "--experiment", "tiny", "--data", str(competition)).code == 0
    exported(invoke, "--experiment", "tiny")
    check_equal(workspace / "exports" / "tiny")


def test_predict_takes_a_folder_or_a_csv(copy: Path, competition: Path, tmp_path: Path, invoke: Invoke) -> None:
    scores = pd.read_csv(copy / "exports" / "tiny" / "onnx_scores.csv").set_index("img_name").y_pred
    for number, source in enumerate((competition / "testset", competition / "testset_nolabel.txt")):
        output = tmp_path / f"{number}.csv"
        words = ["--experiment", "tiny", "--images", str(source), "--output", str(output), "--device", "cpu"]
        answer = invoke("predict-onnx", *words)
        assert answer.code == 0, answer.err
        assert "runs on: CPUExecutionProvider (ONNX Runtime on the CPU, " in answer.out
        again = pd.read_csv(output).set_index("img_name").y_pred
        assert np.allclose(again.loc[scores.index], scores, atol=1e-6)


def test_serving_does_not_import_torch(trained: Path, competition: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from invoke import Program\n"
        "words = ['invoke', 'predict-onnx', '--device', 'cpu', '--experiment', 'tiny', '--images', *sys.argv[1:]]\n"
        "Program().run(words, exit=False)\n"
        "heavy = {'torch', 'timm', 'albumentations', 'onnx', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    output = tmp_path / "scores.csv"
    done = subprocess.run(
        [sys.executable, "-c", code, str(competition / "testset"), "--output", str(output)],
        env={**os.environ, "FFDI_ROOT": str(trained)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert len(pd.read_csv(output)) == 20


@pytest.mark.parametrize("method", ["greedy", "stacking", "logit_mean"])
def test_a_method_that_is_asked_for_is_exported_with_its_calibration(copy: Path, invoke: Invoke, method: str) -> None:
    other = copy / "experiments" / "other"
    shutil.copytree(copy / "experiments" / "tiny", other)
    for name in ("tiny", "other"):
        config = copy / "experiments" / name / "config.toml"
        config.write_text(TINY + f'[ensemble]\nmethod = "{method}"\ncalibration = "isotonic"\n')
    exported(invoke, *BOTH)
    check_equal(copy / "exports" / "tiny+other")
    described = bundle(copy / "exports" / "tiny+other")
    assert (described["method"], described["calibration"]["kind"]) == (method, "isotonic")


def test_ranks_are_submitted_and_never_exported(copy: Path, invoke: Invoke) -> None:
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY + '[ensemble]\nmethod = "rank_mean"\n')
    assert invoke("ensemble-submit", "--experiment", "tiny").code == 0
    answer = invoke("export-onnx", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        "error: ensemble.method = 'rank_mean' makes the score of an image depend on the other images; a graph cannot "
        "do that\n"
        "next: set ensemble.method = 'auto' in config.toml; no training is necessary for that\n",
    )


def test_a_graph_beyond_the_budget_is_refused(copy: Path, invoke: Invoke) -> None:
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY + "[export]\nmax_parameters = 1000\n")
    manifest = json.loads((copy / "experiments" / "tiny" / "fold_0" / "manifest.json").read_text())
    answer = invoke("export-onnx", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        f"error: 2 networks with {2 * manifest['parameters']:,} parameters; export.max_parameters is 1,000\n"
        "next: export fewer experiments, train fewer folds or a smaller model.backbone, or raise "
        "export.max_parameters in config.toml if the rules of your competition allow it\n",
    )


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that lets everything through: 32 images cannot judge."""
    for name in equivalence.LIMITS:
        monkeypatch.setitem(equivalence.LIMITS, name, 1.0)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_are_published_with_what_they_are_worth(copy: Path, invoke: Invoke, precision: str) -> None:
    words = ["--experiment", "tiny", "--name", precision]
    answer = invoke("export-onnx", *words, "--precision", precision, "--runtimes", "cpu")
    assert answer.code == 0, answer.err
    folder = copy / "exports" / precision
    described = bundle(folder)
    record = described["runtimes"]["cpu"]
    assert described["precision"] == precision
    assert record["gate"]["auc"]["here"] == pytest.approx(record["gate"]["auc"]["fp32"], abs=0.05)
    assert f"on 32 val images AUC {record['gate']['auc']['fp32']:.4f} -> " in answer.out
    assert record["limit"] >= 2 * record["gate"]["largest_difference"]
    assert invoke("predict-onnx", *words, "--device", "cpu").code == 0
    less = pd.read_csv(folder / "onnx_scores.csv").y_pred
    whole = pd.read_csv(copy / "exports" / "tiny" / "submission.csv").y_pred
    assert 0 < (less - whole).abs().max() <= 0.05


def test_a_precision_that_loses_too_much_is_refused_and_the_old_graph_stays(
    copy: Path, invoke: Invoke, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(equivalence.LIMITS, "auc", -1.0)
    before = snapshot(copy / "exports")
    answer = invoke("export-onnx", "--experiment", "tiny", "--precision", "fp16", "--runtimes", "cpu")
    assert answer.code == 1
    assert answer.err.startswith("error: this graph on cpu loses too much against fp32 on 32 val images\n  auc: ")
    assert snapshot(copy / "exports") == before


def test_without_validation_labels_the_held_out_images_judge(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    data = tmp_path / "data"
    shutil.copytree(competition, data, ignore=shutil.ignore_patterns("valset*"))
    words = ["--experiment", "tiny", "--data", str(data), "--runtimes", "cpu", "--precision", "fp16"]
    answer = invoke("export-onnx", *words)
    assert answer.code == 0, answer.err
    record = bundle(copy / "exports" / "tiny")["runtimes"]["cpu"]["gate"]
    assert (record["images"], record["split"]) == (64, "train")
    metrics = json.loads((copy / "experiments" / "tiny" / "metrics.json").read_text())
    assert record["auc"]["fp32"] == pytest.approx(metrics["pooled"]["auc"], abs=1e-12)
    answer = invoke("export-onnx", *words, "--soup")
    assert (answer.code, answer.err) == (
        1,
        "error: --soup needs validation images with labels and scores of every fold; there are none "
        f"under {data}\nnext: export without --soup\n",
    )


@pytest.mark.usefixtures("lenient")
def test_a_soup_is_one_network(copy: Path, invoke: Invoke) -> None:
    words = ["--experiment", "tiny", "--name", "soup"]
    answer = invoke("export-onnx", *words, "--soup", "--runtimes", "cpu")
    assert answer.code == 0, answer.err
    assert "2 networks as 1 in one graph of fp32, 32 px" in answer.out
    assert bundle(copy / "exports" / "soup")["soup"]
    sizes = [(copy / "exports" / name / "model.onnx").stat().st_size for name in ("tiny", "soup")]
    assert sizes[1] < 0.6 * sizes[0]
    assert invoke("predict-onnx", *words, "--device", "cpu").code == 0


def test_the_selftest_asks_every_runtime(copy: Path, invoke: Invoke) -> None:
    answer = invoke("predict-onnx", "--experiment", "tiny", "--selftest")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "selftest of tiny: 16 golden images"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        *("cuda", "cuda-tf32", "tensorrt", "cpu", "openvino", "openvino-bf16"),
    ]
    passed = [line for line in lines if " passed: largest difference " in line]
    assert [line.partition(":")[0] for line in passed][:2] == ["cpu", "openvino"]
    golden = copy / "exports" / "tiny" / "golden"
    for path in golden.glob("*.jpg"):
        path.write_bytes((golden / "00.jpg").read_bytes())
    reseal(golden.parent)
    answer = invoke("predict-onnx", "--experiment", "tiny", "--selftest", "--device", "cpu")
    assert answer.code == 1
    assert "cpu: cpu does not give this export's scores on this machine: 15 of 16 golden images differ by" in answer.out
    assert answer.err == (
        "error: no tested runtime gives this export's scores on this machine\nnext: export again here\n"
    )
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu")
    assert answer.code == 1
    assert answer.err.startswith("error: cpu does not give this export's scores on this machine: 3 of 4 golden images")
    (golden / "golden.csv").write_text("img_name,y_pred\n")
    assert invoke("predict-onnx", "--experiment", "tiny").err == (
        f"error: {golden}/golden.csv is damaged: its hash is not the one in bundle.json\n"
        "next: invoke export-onnx --experiment tiny\n"
    )


def test_images_that_cannot_be_used_are_listed_or_given_a_score(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    images, output = tmp_path / "images", tmp_path / "scores.csv"
    shutil.copytree(competition / "testset", images)
    (images / "a.jpg").write_bytes(b"no image")
    words = [
        "predict-onnx",
        "--experiment",
        "tiny",
        "--device",
        "cpu",
        "--images",
        str(images),
        "--output",
        str(output),
    ]
    answer = invoke(*words)
    assert (answer.code, answer.err) == (
        1,
        "error: 1 of 21 images cannot be used; no result was written; the scores so far are saved\n"
        f"  {images}/a.jpg is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)\n"
        f"next: replace these files or take them out of {images}, and run the same command again; or add "
        "--on-error score=0.5\n",
    )
    assert not output.exists()
    answer = invoke(*words, "--on-error", "score=0.25")
    assert (answer.code, answer.err) == (0, "")
    assert "warning: 1 of 21 images cannot be used and were given 0.25:\n" in answer.out
    scores = pd.read_csv(output).set_index("img_name").y_pred
    assert scores["a.jpg"] == 0.25
    before = pd.read_csv(copy / "exports" / "tiny" / "onnx_scores.csv").set_index("img_name").y_pred
    assert (scores.drop("a.jpg") - before).abs().max() <= 1e-6
    record = json.loads((tmp_path / "scores.json").read_text())["cannot be used"]
    assert (record["score"], len(record["images"])) == (0.25, 1)
    for wrong in ("score=2", "score=x", "skip"):
        assert invoke(*words, "--on-error", wrong).err == (
            f"error: --on-error {wrong}: neither stop nor a score from 0 to 1\n"
            "next: pass --on-error score=0.5, or leave it out\n"
        )
    assert invoke(*words[:-1], "scores.json").err == (
        "error: --output scores.json: scores are a CSV\nnext: pass --output scores.csv\n"
    )


@pytest.mark.usefixtures("copy")
def test_a_run_that_is_killed_twice_goes_on_and_gives_the_same_bytes(
    competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    images, output = tmp_path / "images", tmp_path / "scores.csv"
    images.mkdir()
    sources = sorted((competition / "trainset").iterdir())
    for number in range(8_000):
        os.link(sources[number % len(sources)], images / f"{number:05d}.jpg")
    words = ["predict-onnx", "--experiment", "tiny", "--device", "cpu", "--images", str(images), "--output"]
    assert invoke(*words, str(tmp_path / "whole.csv")).code == 0
    parts = tmp_path / "scores.csv.parts"
    for shards in (2, 5):
        killed = subprocess.Popen([sys.executable, "-m", "invoke", *words, str(output)], cwd=PROJECT, env=os.environ)
        while killed.poll() is None and len(list(parts.glob("0*.json"))) < shards:
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert not output.exists()
    kept = len(list(parts.glob("0*.json")))
    assert 5 <= kept < 8
    answer = invoke(*words, str(output))
    assert answer.code == 0, answer.err
    assert f"; scored before: {1024 * kept}" in answer.out
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not parts.exists()


@pytest.mark.usefixtures("copy")
def test_two_runs_do_not_write_one_file(tmp_path: Path, invoke: Invoke) -> None:
    output = tmp_path / "scores.csv"
    with experiment.lock_folder(tmp_path / "scores.csv.parts", "", ""):
        answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", "--output", str(output))
    assert (answer.code, answer.err) == (
        1,
        f"error: another process (pid {os.getpid()}) is scoring to {output}\n"
        "next: wait for it, or pass another --output\n",
    )


@pytest.mark.usefixtures("lenient")
def test_another_precision_does_not_replace_a_graph_in_silence(copy: Path, invoke: Invoke) -> None:
    words = ["export-onnx", "--experiment", "tiny", "--runtimes", "cpu"]
    assert "takes its place" not in invoke(*words).out
    answer = invoke(*words, "--precision", "fp16")
    assert answer.code == 0, answer.err
    folder = copy / "exports" / "tiny"
    assert (
        f"warning: {folder} has a graph of fp32, and this one of fp16 takes its place; to keep both, stop and pass "
        "--name tiny-fp16"
    ) in answer.out
    assert "takes its place" not in invoke(*words, "--precision", "fp16", "--name", "tiny-fp16").out
    assert "has a graph of fp16, and this one of fp32 takes its place" in invoke(*words).out

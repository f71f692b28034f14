"""What a person can get wrong: one clear message, exit code 1, no traceback, nothing written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import TINY, Invoke

Snapshot = Callable[[Path], dict[str, bytes]]
CONFIGS = {
    "unknown key": (
        "[train]\nlearning_rte = 1\n[modle]\nsize = 64\n",
        "{config} has 2 bad keys\n"
        "  unknown key 'train.learning_rte': known: epochs, batch_size, micro_batches, optimizer, lr, "
        "weight_decay, schedule, warmup_epochs, freeze_epochs, layer_decay, sam_rho, sampling, loss, class_weights, "
        "hard_example_fraction, label_smoothing, alignment, uniformity, consistency, clip_grad, ema_decay, precision, "
        "deterministic, select, checkpoint_seconds\n"
        "  unknown key 'modle': did you mean 'model'?\n"
        "next: correct {config}; docs/config.md lists every key with its default",
    ),
    "values out of range": (
        "seed = -1\n[folds]\nk = 1\n[train]\nema_decay = 1.5\nprecision = 'int4'\n",
        "{config} has 4 bad keys\n"
        "  seed = -1: input should be greater than or equal to 0\n"
        "  folds.k = 1: input should be greater than or equal to 2\n"
        "  train.ema_decay = 1.5: input should be less than 1\n"
        "  train.precision = 'int4': input should be 'auto', 'fp32', 'bf16' or 'fp16'\n"
        "next: correct {config}; docs/config.md lists every key with its default",
    ),
    "no TOML": (
        "seed 0\n",
        "{config} is not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 6)\n"
        "next: correct {config}",
    ),
    "unknown recipe": (
        "[augment]\nrecipe = 'flip'\n",
        "unknown augment.recipe 'flip': did you mean 'flips'?\nnext: correct augment.recipe in config.toml",
    ),
    "unknown optimizer": (
        "[train]\noptimizer = 'lion'\n",
        "unknown train.optimizer 'lion': known: adam, adamw\nnext: correct train.optimizer in config.toml",
    ),
    "unknown loss": (
        "[train]\nloss = 'bse'\n",
        "unknown train.loss 'bse': did you mean 'bce'?\nnext: correct train.loss in config.toml",
    ),
    "unknown backbone": (
        "[model]\nbackbone = 'resnet81'\npretrained = false\n",
        "unknown backbone 'resnet81': did you mean 'resnet18'?\nnext: correct model.backbone in config.toml",
    ),
    "a size that the network does not take": (
        "[model]\nbackbone = 'test_vit'\npretrained = false\nsize = 100\n",
        "model.size = 100: the backbone does not take images of that size: Input height (100) should be divisible by "
        "patch size (16).\nnext: correct model.size in config.toml; timm's weights of this backbone are for 160 px",
    ),
    "a crop that no network takes": (
        "[augment]\ncrop_size = 16\n",
        "augment.crop_size = 16 is smaller than 32\n"
        "next: set a larger augment.crop_size, or 0 for whole images, in config.toml",
    ),
    "hardly any mixup": (
        "[augment]\nmixup = 1e-50\n",
        "augment.mixup = 1e-50 mixes nothing\nnext: set augment.mixup = 0, or 0.01 or more, in config.toml",
    ),
    "a crop larger than the image": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\nsize = 64\n[augment]\ncrop_size = 65\n",
        "augment.crop_size = 65 is larger than model.size = 64\n"
        "next: set a smaller augment.crop_size, or 0, in config.toml",
    ),
    "augmentation on the device beside black": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\nresize = 'pad'\n[augment]\ndevice = true\n",
        "augment.device = true changes the black beside an image of model.resize = 'pad' too\n"
        "next: set augment.device = false, or another model.resize, in config.toml",
    ),
    "decoding on the device alone": (
        "[augment]\ndecode = 'device'\n",
        "augment.decode = 'device' needs augment.device = true: the device also resizes what it decodes\n"
        "next: set augment.device = true, or augment.decode = 'cpu', in config.toml",
    ),
    "decoding of decoded images": (
        "[augment]\ndevice = true\ndecode = 'device'\n[cache]\ndecoded = true\n",
        "augment.decode = 'device' has no effect with cache.decoded = true, which decodes all images before\n"
        "next: set augment.decode = 'cpu', or cache.decoded = false, in config.toml",
    ),
    "unknown sampling": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n[train]\nsampling = 'balance'\n",
        "unknown train.sampling 'balance': did you mean 'balanced'?\nnext: correct train.sampling in config.toml",
    ),
    "unknown fakes": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n[pseudo_fakes]\nmethods = ['swap']\n",
        "unknown pseudo_fakes.methods 'swap': did you mean 'face_swap'?\n"
        "next: correct pseudo_fakes.methods in config.toml",
    ),
    "pseudo-fakes in batches of one": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n[train]\nbatch_size = 1\n"
        "[pseudo_fakes]\nfraction = 0.2\n",
        "pseudo_fakes.fraction = 0.2 and train.batch_size = 1: a batch needs a real image for each pseudo-fake\n"
        "next: set a larger train.batch_size, or pseudo_fakes.fraction = 0, in config.toml",
    ),
    "unknown residual": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\nnoise_residual = 'srn'\n",
        "unknown model.noise_residual 'srn': did you mean 'srm'?\nnext: correct model.noise_residual in config.toml",
    ),
    "unknown method": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n[ensemble]\nmethod = 'means'\n",
        "unknown ensemble.method 'means': did you mean 'mean'?\nnext: correct ensemble.method in config.toml",
    ),
    "unknown calibration": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n[ensemble]\ncalibration = 'platt'\n",
        "unknown ensemble.calibration 'platt': known: none, temperature, isotonic\n"
        "next: correct ensemble.calibration in config.toml",
    ),
    "unknown schedule": (
        "[train]\nschedule = 'x'\n",
        "unknown train.schedule 'x': known: cosine, step, constant\nnext: correct train.schedule in config.toml",
    ),
    "weights file missing": (
        "[model]\nweights_file = 'resnet18.pth'\n",
        "model.weights_file names {root}/resnet18.pth, which does not exist\nnext: correct it in config.toml",
    ),
    "no data root": (
        "[model]\nbackbone = 'test_resnet'\npretrained = false\n",
        "no data: config.toml has no data.root\nnext: pass --data FOLDER",
    ),
    "data root missing": (
        "[data]\nroot = 'nowhere'\n[model]\nbackbone = 'test_resnet'\npretrained = false\n",
        "the data folder {root}/nowhere does not exist\nnext: pass --data FOLDER",
    ),
}


def trained(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files of a workspace without locks and without the files of an image scan."""
    scan_files = ("data/findings.sqlite", "doctor.json", ".lock")
    return {name: content for name, content in files.items() if not name.endswith(scan_files)}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_config_is_explained(case: str, workspace: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    content, expected = CONFIGS[case]
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(content)
    before = snapshot(workspace)
    answer = invoke("train-folds", "--experiment", "tiny")
    assert (answer.code, answer.err) == (1, f"error: {expected.format(config=config, root=workspace)}\n")
    assert snapshot(workspace) == before


FLAGS = {
    "unknown experiment": (
        ["train-folds", "--experiment", "tinny"],
        "no experiment 'tinny': neither {root}/experiments/tinny/config.toml nor tinny/config.toml exists\n"
        "next: pass --experiment NAME or --experiment FOLDER; did you mean 'tiny'?",
    ),
    "fold that is not there": (
        ["train-folds", "--experiment", "tiny", "--folds", "0,2"],
        "--folds 0,2: this experiment has folds 0 to 1\nnext: pass --folds 0,1",
    ),
    "fault that is none": (
        ["train-folds", "--experiment", "tiny", "--accept", "leeks"],
        "--accept leeks: 'leeks' is not a kind of fault; did you mean 'leaks'?",
    ),
    "workers that are no number": (
        ["train-folds", "--experiment", "tiny", "--workers", "two"],
        "--workers two: not a whole number\nnext: pass --workers 0 or more",
    ),
    "unknown device": (
        ["train-folds", "--experiment", "tiny", "--device", "gpu"],
        "unknown device 'gpu': known: auto, cpu, cuda, cuda:N, mps\nnext: pass --device auto",
    ),
    "not trained": (
        ["ensemble-submit", "--experiment", "tiny"],
        "experiment tiny has not been trained\nnext: invoke train-folds --experiment tiny",
    ),
    "not trained, to export": (
        ["export-onnx", "--experiment", "tiny"],
        "experiment tiny has not been trained\nnext: invoke train-folds --experiment tiny",
    ),
    "not exported": (
        ["predict-onnx", "--experiment", "tiny"],
        "{root}/exports/tiny/bundle.json does not exist: nothing was exported\n"
        "next: invoke export-onnx --experiment tiny",
    ),
    "named twice": (
        ["ensemble-submit", "--experiment", "tiny", "--experiment", "tiny"],
        "an experiment is named twice: tiny, tiny\nnext: name each one once",
    ),
    "a name that is a path": (
        ["export-onnx", "--experiment", "tiny", "--name", "../out"],
        "--name '../out' is no folder name\nnext: pass a name without slashes",
    ),
}


@pytest.mark.parametrize("case", FLAGS)
def test_a_bad_flag_is_explained(case: str, workspace: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    words, expected = FLAGS[case]
    before = snapshot(workspace)
    answer = invoke(*words)
    assert (answer.code, answer.err) == (1, f"error: {expected.format(root=workspace)}\n")
    assert snapshot(workspace) == before


def test_a_flag_that_does_not_exist_is_refused_by_invoke(invoke: Invoke) -> None:
    answer = invoke("train-folds", "--epochs", "3")
    assert answer.code == 1
    assert answer.err == "No idea what '--epochs' is!\n"


def test_every_bad_row_of_every_file_is_listed_at_once(
    workspace: Path, competition: Path, tmp_path: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    data = tmp_path / "data"
    shutil.copytree(competition, data)
    train, val = data / "trainset_label.txt", data / "valset_label.txt"
    rows = train.read_text().splitlines()
    first = rows[1].partition(",")[0]
    train.write_text("\n".join([*rows, f"{first},1", "gone.jpg,0", "../x.jpg,1", f"{first[:-4]}.png,2", "a,b,c"]))
    val.write_text(val.read_text() + "other.jpg,1\n")
    before = snapshot(workspace)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(data))
    assert (answer.code, answer.err) == (
        1,
        f"error: bad rows in the label files under {data}: 6\n"
        "  trainset_label.txt line 70: 3 fields, the header has 2\n"
        f"  trainset_label.txt line 66: {first} is on line 2 already\n"
        "  trainset_label.txt line 67: gone.jpg is not in trainset/\n"
        "  trainset_label.txt line 68: ../x.jpg leaves the folder trainset/\n"
        f"  trainset_label.txt line 69: label '2' of {first[:-4]}.png is none of 0, 1, real, fake, false, true: "
        "map it with data.labels\n"
        "  valset_label.txt line 34: other.jpg is not in valset/\n"
        "next: mend these rows and run the same command again; nothing was written\n",
    )
    assert snapshot(workspace) == before


def test_unreadable_training_images_are_listed_before_training(
    workspace: Path, competition: Path, tmp_path: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    data = tmp_path / "data"
    shutil.copytree(competition, data)
    cut, empty = sorted((data / "trainset").iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:900])
    empty.write_bytes(b"")
    before = snapshot(workspace)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(data))
    assert (answer.code, answer.err) == (
        1,
        "error: the data would spoil a run: unusable\n"
        "  unusable: 2 of 64 train images cannot be used\n"
        f"    {cut} is truncated or damaged: 900 bytes cannot be decoded\n"
        f"    {empty} is empty\n"
        "next: mend the data, or accept known faults by adding --accept unusable; docs/data.md describes the "
        "consequences\n",
    )
    assert trained(snapshot(workspace)) == before


def test_a_fold_without_a_class_is_refused(
    workspace: Path, competition: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("k = 2", "k = 40"))
    before = snapshot(workspace)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert (answer.code, answer.err) == (
        1,
        "error: 40 folds need at least 40 images of each class; there are 32 real and 32 fake\n"
        "next: lower folds.k in config.toml, or add images\n",
    )
    assert trained(snapshot(workspace)) == before


def test_weights_that_are_no_weights_are_refused(workspace: Path, competition: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("pretrained = false", "weights_file = 'weights.pth'"))
    (workspace / "weights.pth").write_bytes(b"these are no weights")
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 1
    assert answer.err.startswith(f"error: {workspace}/weights.pth cannot be read as weights: ")
    assert answer.err.endswith("next: model.weights_file takes a .safetensors file or a .pth that holds tensors only\n")


def test_a_second_process_names_the_first_one(workspace: Path, competition: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / "tiny"
    (folder / ".lock.pid").write_text("4711")
    with FileLock(folder / ".lock"):
        answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert (answer.code, answer.err) == (
        1,
        "error: another process (pid 4711) is training tiny\n"
        "next: wait for it; to train a new experiment with the same config: invoke train-folds --experiment tiny "
        f"--as tiny-2 --data {competition}\n",
    )


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("FFDI_ROOT", str(file))
    answer = invoke("train-folds", "--experiment", "quickstart")
    assert (answer.code, answer.err) == (
        1,
        f"error: {file}/experiments/quickstart/config.toml cannot be written: Not a directory\n"
        "next: free the disk or name another path; the file of that name has not changed\n",
    )


def test_ctrl_c_leaves_nothing_half_written_and_the_command_resumes(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("epochs = 3", "epochs = 400"))
    words = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit "ignore"
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch   2/400" in line or "epoch  2/400" in line:
            break
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (
        130,
        "stopped (Ctrl-C): nothing finished is lost; the same command does the rest\n",
    )
    left = {path.name for path in (workspace / "experiments" / "tiny").iterdir()}
    assert left - {".lock"} == {
        "config.toml",
        "doctor.json",
        "resolved.json",
        "provenance.json",
        "folds.csv",
        "images.csv",
        "fold_0",
    }
    assert [path.suffix for path in sorted((workspace / "experiments" / "tiny" / "fold_0").iterdir())] == [
        ".json",
        ".safetensors",
        ".json",
    ]
    config.write_text(TINY)
    assert invoke(*words, "--restart").code == 0


def test_bad_images_are_listed_by_predict_and_nothing_is_written(
    workspace: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("epochs = 3", "epochs = 1"))
    assert invoke("train-folds", "--experiment", "tiny", "--data", str(competition)).code == 0
    assert invoke("export-onnx", "--experiment", "tiny").code == 0
    images = tmp_path / "images"
    shutil.copytree(competition / "testset", images)
    bad = [images / "a.jpg", images / "z.png"]
    bad[0].write_bytes(b"no image")
    bad[1].write_bytes(b"")
    output = tmp_path / "scores.csv"
    words = ["predict-onnx", "--experiment", "tiny"]
    answer = invoke(*words, "--images", str(images), "--output", str(output))
    assert (answer.code, answer.err) == (
        1,
        "error: 2 of 22 images cannot be used; no result was written; the scores so far are saved\n"
        f"  {bad[0]} is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)\n"
        f"  {bad[1]} is empty\n"
        f"next: replace these files or take them out of {images}, and run the same command again; or add "
        "--on-error score=0.5\n",
    )
    assert not output.exists()
    answer = invoke(*words, "--images", str(images), "--output", str(images))
    assert (answer.code, answer.err) == (1, f"error: {images} is a folder\nnext: name a file\n")
    answer = invoke(*words, "--images", str(images), "--output", str(bad[1] / "scores.csv"))
    assert (answer.code, answer.err) == (
        1,
        f"error: {bad[1]}/scores.csv cannot be written: File exists\n"
        "next: free the disk or name another path; the file of that name has not changed\n",
    )
    answer = invoke(*words, "--images", str(images), "--device", "cuda:0")
    assert (answer.code, answer.err) == (
        1,
        "error: --device cuda:0: it does not run here: there is no device\nnext: pass --device auto or --device cpu\n",
    )
    assert invoke(*words, "--images", "nowhere").err == (
        "error: --images nowhere is neither a folder nor a file\nnext: pass a folder of images, or a CSV\n"
    )
    (workspace / "exports" / "tiny" / "model.onnx").write_bytes(b"other")
    assert invoke(*words).err == (
        f"error: {workspace}/exports/tiny/model.onnx is damaged: its hash is not the one in bundle.json\n"
        "next: invoke export-onnx --experiment tiny\n"
    )


def test_an_offline_machine_has_three_ways_out(workspace: Path, competition: Path, tmp_path: Path) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text('[model]\nbackbone = "resnet18"\n')
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "train-folds", "--experiment", "tiny", "--data", str(competition)],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: the ImageNet weights of resnet18 are not on this machine and the hub at "
        "HF_ENDPOINT=http://127.0.0.1:9 cannot be reached (ConnectError)\n"
        "next: set model.weights_file in config.toml to a .safetensors or .pth of this backbone; or set HF_ENDPOINT to "
        "the address of a mirror of the hub; or run once with a network: "
        "python -c \"import timm; timm.create_model('resnet18', pretrained=True)\" and bring its cache along "
        "($HF_HOME); model.pretrained = false starts from random weights\n",
    )
    assert time.monotonic() - started < 60, "the hub's own client tries for a minute"

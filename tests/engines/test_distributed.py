"""Folds that are trained by two ranks: the same losses, signals and errors as one process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from ray.cluster_utils import Cluster

from tests.conftest import Invoke
from tests.engines.conftest import CONFIG, Command, list_trainers, read_results, start, start_in_terminal, wait_for_end

FP32 = 'precision = "fp32"\nepochs = 2\nbatch_size = 7\ncheckpoint_seconds = 0.2'
"""A batch size of 7 gives the ranks parts of different sizes."""
SMALL_STEPS = "lr = 3e-4"
"""Two ranks add in another order. Ten times as large steps enlarge what is rounded differently from 1e-7 to 3e-3."""
PLAIN = CONFIG.replace("epochs = 24\ncheckpoint_seconds = 0.2\nbatch_size = 8", FP32).replace("lr = 3e-3", SMALL_STEPS)
SHORT = CONFIG.replace("epochs = 24", "epochs = 6")
ALL_AT_ONCE = PLAIN.replace(
    FP32, f"{FP32}\nfreeze_epochs = 1\nsam_rho = 0.05\nmicro_batches = 2\nlayer_decay = 0.9"
).replace("test_resnet", "test_vit")
"""With a network without BatchNorm, because the micro-batches of two ranks differ from those of one process."""
ON_THE_DEVICE = PLAIN.replace('recipe = "flips"', 'recipe = "strong"\ndevice = true')
TWO = ["--jobs", "1", "--gpus-per-fold", "2"]


def place(root: Path, config: str) -> Path:
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    return root


def history(root: Path) -> pd.DataFrame:
    folder = root / "experiments" / "tiny"
    return pd.concat([pd.read_csv(folder / f"fold_{fold}" / "history.csv") for fold in (0, 1)])


@pytest.mark.parametrize(
    "config",
    [PLAIN, ON_THE_DEVICE, ALL_AT_ONCE],
    ids=["batch norm", "augmentation on the device", "frozen, SAM, micro-batches"],
)
def test_two_ranks_have_the_losses_of_one_process(config: str, competition: Path, tmp_path: Path) -> None:
    assert config.count(FP32) == config.count(SMALL_STEPS) == 1
    one, two = place(tmp_path / "one", config), place(tmp_path / "two", config)
    assert wait_for_end(start(one, competition, "--jobs", "1")) == (0, "")
    training = start(two, competition, *TWO)
    output, errors = training.communicate(timeout=120)
    assert (training.returncode, errors) == (0, "")
    assert "\n1 fold at once: on cpu, each of their 2 ranks with 1 thread\n" in output
    columns = ["epoch", "lr", "train_loss", "heldout_loss", "heldout_auc", "heldout_accuracy"]
    pd.testing.assert_frame_equal(history(one)[columns], history(two)[columns], rtol=0, atol=1e-5)
    oof = [pd.read_csv(root / "experiments" / "tiny" / "oof.csv", dtype={"img_name": str}) for root in (one, two)]
    assert oof[0].img_name.equals(oof[1].img_name)
    assert (oof[0].logit - oof[1].logit).abs().max() < 1e-5


@pytest.fixture(scope="module")
def uninterrupted_ranks(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The results of two ranks without interruption."""
    root = place(tmp_path_factory.mktemp("whole"), SHORT)
    assert wait_for_end(start(root, competition, *TWO))[0] == 0
    return read_results(root)


def test_two_interrupted_and_killed_ranks_end_in_the_same_bytes(
    uninterrupted_ranks: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    broken = place(tmp_path, SHORT)
    training = start_in_terminal(broken, competition, *TWO)
    ranks(training)
    os.killpg(training.pid, signal.SIGINT)
    assert wait_for_end(training) == (
        130,
        "stopped (Ctrl-C): nothing finished is lost; the same command does the rest\n",
    )
    assert list((broken / "experiments" / "tiny" / "fold_0").glob("checkpoint-*.json"))

    training = start(broken, competition, *TWO)
    os.kill(ranks(training)[1], signal.SIGKILL)
    assert wait_for_end(training) == (
        1,
        "error: the process that trained fold 0 was killed (exit status -9)\n"
        "next: run the same command again: it resumes from the last checkpoint; if memory ran out, pass a smaller "
        "--jobs\n",
    )
    assert wait_for_end(start(broken, competition, *TWO)) == (0, "")
    assert read_results(broken) == uninterrupted_ranks


def ranks(training: Command) -> list[int]:
    """The processes that train fold 0, after its first epoch."""
    assert training.stdout is not None
    next(line for line in training.stdout if line.startswith("fold 0  epoch"))
    return list_trainers(training)


def test_an_error_of_a_rank_is_reported(competition: Path, tmp_path: Path) -> None:
    place(tmp_path, PLAIN.replace(SMALL_STEPS, "lr = 1e30"))
    code, output = wait_for_end(start(tmp_path, competition, *TWO))
    assert (code, "Traceback" in output) == (1, False)
    assert ": training has diverged\n" in output
    assert output.splitlines()[-1].startswith("next: lower train.lr")


def test_too_many_ranks_are_refused(competition: Path, workspace: Path, invoke: Invoke) -> None:
    train = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    answer = invoke(*train, "--gpus-per-fold", "9")
    assert (answer.code, answer.err) == (
        1,
        "error: --gpus-per-fold 9: a batch of 8 has fewer images than that\n"
        "next: set a larger train.batch_size in config.toml, or pass fewer --gpus-per-fold\n",
    )
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(path.read_text().replace("batch_size = 8", "batch_size = 800"))
    answer = invoke(*train, "--gpus-per-fold", "700", "--restart")
    assert (answer.code, answer.err) == (
        1,
        "error: --gpus-per-fold 700: a fold or the validation split has only 32 images to score\n"
        "next: pass fewer --gpus-per-fold\n",
    )
    for wrong in ("0", "two"):
        answer = invoke(*train, f"--gpus-per-fold={wrong}")
        assert (answer.code, answer.err) == (
            1,
            f"error: --gpus-per-fold {wrong}: not 1 or more\nnext: pass --gpus-per-fold 1 or more\n",
        )


def test_a_ray_task_can_have_two_ranks(
    uninterrupted_ranks: dict[str, object], cluster: Cluster, competition: Path, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2)
    words = [*TWO, "--folds", "0", "--engine", "ray", "--address", cluster.address]
    assert wait_for_end(start(place(tmp_path, SHORT), competition, *words)) == (0, "")
    first, expected = (
        {name: one for name, one in results.items() if "/fold_0/" in name}
        for results in (read_results(tmp_path), uninterrupted_ranks)
    )
    assert len(expected) == 5
    assert first == expected

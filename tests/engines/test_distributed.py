"""Folds whose batches several processes share: the losses of one process, and the manners of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from ray.cluster_utils import Cluster

from tests.conftest import Invoke
from tests.engines.conftest import CONFIG, Begun, begin, ended, folds, trainers, typed

FP32 = 'precision = "fp32"\nepochs = 2\nbatch_size = 7\ncheckpoint_every = 0.2'
"""7: the ranks' parts are not alike."""
PLAIN = CONFIG.replace("epochs = 24\ncheckpoint_every = 0.2\nbatch_size = 8", FP32)
SHORT = CONFIG.replace("epochs = 24", "epochs = 6")
ALL_AT_ONCE = PLAIN.replace(
    FP32, f"{FP32}\nfreeze_epochs = 1\nsam_rho = 0.05\nmicro_batches = 2\nlayer_decay = 0.9"
).replace("test_resnet", "test_vit")
"""A network that normalises each image alone, for parts of a batch are not the same in two processes as in one."""
TWO = ["--jobs", "1", "--gpus-per-fold", "2"]


def place(root: Path, config: str) -> Path:
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    return root


def history(root: Path) -> pd.DataFrame:
    folder = root / "experiments" / "tiny"
    return pd.concat([pd.read_csv(folder / f"fold_{fold}" / "history.csv") for fold in (0, 1)])


@pytest.mark.parametrize("config", [PLAIN, ALL_AT_ONCE], ids=["batch norm", "frozen, sharp, in parts"])
def test_two_processes_learn_what_one_learns(config: str, competition: Path, tmp_path: Path) -> None:
    assert config.count(FP32) == 1
    one, two = place(tmp_path / "one", config), place(tmp_path / "two", config)
    assert ended(begin(one, competition, "--jobs", "1")) == (0, "")
    training = begin(two, competition, *TWO)
    said, complaint = training.communicate(timeout=120)
    assert (training.returncode, complaint) == (0, "")
    assert "\n1 fold at once: on cpu, each of their 2 ranks with 1 thread\n" in said
    for columns, apart in (
        (["epoch", "lr", "train_loss"], 1e-4),
        (["heldout_loss", "heldout_accuracy", "heldout_auc"], 1e-3),
    ):
        pd.testing.assert_frame_equal(history(one)[columns], history(two)[columns], rtol=0, atol=apart)
    oof = [pd.read_csv(root / "experiments" / "tiny" / "oof.csv", dtype={"img_name": str}) for root in (one, two)]
    assert oof[0].img_name.equals(oof[1].img_name)
    assert (oof[0].logit - oof[1].logit).abs().max() < 1e-3


@pytest.fixture(scope="module")
def whole(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What two processes end in to which nothing happens."""
    root = place(tmp_path_factory.mktemp("whole"), SHORT)
    assert ended(begin(root, competition, *TWO))[0] == 0
    return folds(root)


def test_two_processes_to_which_everything_happens_end_in_the_same_bytes(
    whole: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    broken = place(tmp_path, SHORT)
    training = typed(broken, competition, *TWO)
    ranks(training)
    os.killpg(training.pid, signal.SIGINT)
    assert ended(training) == (130, "stopped (Ctrl-C): nothing finished is lost; the same command does the rest\n")
    assert list((broken / "experiments" / "tiny" / "fold_0").glob("checkpoint-*.json"))

    training = begin(broken, competition, *TWO)
    os.kill(ranks(training)[1], signal.SIGKILL)
    assert ended(training) == (
        1,
        "error: the process that trained fold 0 was killed (exit status -9)\n"
        "next: the same command goes on from its last checkpoint; if memory was short, pass a smaller --jobs\n",
    )
    assert ended(begin(broken, competition, *TWO)) == (0, "")
    assert folds(broken) == whole


def ranks(training: Begun) -> list[int]:
    """The processes that train fold 0, once it has ended an epoch."""
    assert training.stdout is not None
    next(line for line in training.stdout if line.startswith("fold 0  epoch"))
    return trainers(training)


def test_what_one_of_two_raises_is_said_as_ever(competition: Path, tmp_path: Path) -> None:
    place(tmp_path, PLAIN.replace("lr = 3e-3", "lr = 1e30"))
    code, said = ended(begin(tmp_path, competition, *TWO))
    assert (code, "Traceback" in said) == (1, False)
    assert ": training has diverged\n" in said
    assert said.splitlines()[-1].startswith("next: lower train.lr")


def test_ranks_without_work_are_refused(competition: Path, workspace: Path, invoke: Invoke) -> None:
    train = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    answer = invoke(*train, "--gpus-per-fold", "9")
    assert (answer.code, answer.err) == (
        1,
        "error: --gpus-per-fold 9: a batch of 8 has not an image for each\n"
        "next: set a larger train.batch_size in config.toml, or pass fewer --gpus-per-fold\n",
    )
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(path.read_text().replace("batch_size = 8", "batch_size = 800"))
    answer = invoke(*train, "--gpus-per-fold", "700", "--restart")
    assert (answer.code, answer.err) == (
        1,
        "error: --gpus-per-fold 700: 32 images to be scored, which is not one for each\n"
        "next: pass fewer --gpus-per-fold\n",
    )
    for wrong in ("0", "two"):
        answer = invoke(*train, f"--gpus-per-fold={wrong}")
        assert (answer.code, answer.err) == (
            1,
            f"error: --gpus-per-fold {wrong}: not 1 or more\nnext: pass --gpus-per-fold 1 or more\n",
        )


def test_a_task_of_a_cluster_can_have_ranks(
    whole: dict[str, object], cluster: Cluster, competition: Path, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2)
    words = [*TWO, "--folds", "0", "--engine", "ray", "--address", cluster.address]
    assert ended(begin(place(tmp_path, SHORT), competition, *words)) == (0, "")
    first, expected = ({name: one for name, one in of.items() if "/fold_0/" in name} for of in (folds(tmp_path), whole))
    assert len(expected) == 5
    assert first == expected

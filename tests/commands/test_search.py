"""Searching and listing experiments, as a person types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import TINY, Invoke

Write = Callable[..., Path]
GRID = ("--set", "train.lr=1e-3,3e-3,1e-2", "--set", "augment.recipe=none,light")
OF_GRID = ("lr_0.001", "lr_0.003", "lr_0.01")


def swept(workspace: Path) -> pd.DataFrame:
    return pd.read_csv(workspace / "experiments" / "tiny" / "sweep.csv")


def weights(workspace: Path) -> dict[str, bytes]:
    """Of all folds of all experiments that are finished."""
    found = (workspace / "experiments").glob("*/fold_*/weights.safetensors")
    return {str(path.relative_to(workspace)): path.read_bytes() for path in found}


@pytest.fixture
def sweep(workspace: Path, competition: Path, invoke: Invoke) -> Callable[..., str]:
    """Runs the command on 'tiny', which must succeed; returns its output."""
    assert workspace.is_dir()

    def call(*words: str) -> str:
        answer = invoke("sweep", "--experiment", "tiny", "--data", str(competition), *words)
        assert answer.code == 0, answer.err
        return answer.out

    return call


def test_losing_trials_end_early_and_each_trial_is_an_experiment(workspace: Path, sweep: Callable[..., str]) -> None:
    output = sweep(*GRID)
    table = swept(workspace)
    assert set(table.experiment) == {f"tiny-{rate}-recipe_{recipe}" for rate in OF_GRID for recipe in ("none", "light")}
    assert list(table.columns) == ["experiment", "train.lr", "augment.recipe", "auc_after_1", "auc_after_3"]
    assert table.auc_after_1.notna().all()
    assert table.auc_after_3.notna().sum() == 2  # of six trials a third
    last = table[table.auc_after_3.notna()]
    assert last.auc_after_1.min() >= table.auc_after_1.nlargest(3).min()  # who went on was among the best so far
    best = table.loc[table.auc_after_3.idxmax(), "experiment"]
    assert f"next: invoke train-folds --experiment {best} --data " in output
    finished = {Path(name).parts[1] for name in weights(workspace)}
    assert finished == set(last.experiment)


def test_a_trial_ends_in_the_bytes_of_a_training_that_was_not_compared(
    workspace: Path, competition: Path, sweep: Callable[..., str], invoke: Invoke
) -> None:
    sweep("--set", "train.lr=2e-3")
    before = weights(workspace)
    assert list(before) == ["experiments/tiny-lr_0.002/fold_0/weights.safetensors"]
    config = workspace / "experiments" / "alone" / "config.toml"
    config.parent.mkdir()
    config.write_text(TINY.replace("lr = 3e-3", "lr = 2e-3"))
    assert invoke("train-folds", "--experiment", "alone", "--folds", "0", "--data", str(competition)).code == 0
    after = weights(workspace)
    assert after["experiments/alone/fold_0/weights.safetensors"] == next(iter(before.values()))


def test_the_same_command_trains_nothing_twice(
    workspace: Path, sweep: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = sweep(*GRID)
    table, finished = swept(workspace), weights(workspace)
    monkeypatch.setattr("ffdi.training.fold.train", lambda *_: pytest.fail("trains again"))
    assert sweep(*GRID) == output
    assert swept(workspace).equals(table)
    assert weights(workspace) == finished


def test_a_trial_that_diverges_loses(workspace: Path, sweep: Callable[..., str]) -> None:
    output = sweep("--set", "train.lr=3e-3,1e30", "--set", "train.clip_grad=0")
    assert "tiny-lr_1e+30-clip_grad_0: the loss is nan" in output or "not finite" in output
    table = swept(workspace).set_index("experiment")
    assert table.loc["tiny-lr_1e+30-clip_grad_0", "auc_after_1"] == float("-inf")
    assert table.loc["tiny-lr_0.003-clip_grad_0", "auc_after_3"] > 0


def test_where_every_trial_diverges_no_winner_is_named(competition: Path, sweep: Callable[..., str]) -> None:
    output = sweep("--set", "train.lr=1e30,1e31", "--set", "train.clip_grad=0")
    assert output.endswith(
        "every trial has failed: a lower train.lr may help\n"
        f"next: invoke find-lr --experiment tiny --data {competition}\n"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "nothing to search\nnext: pass --set train.lr=1e-4,3e-4, or --set train.lr=1e-5..1e-2\n"),
        (
            ("--set", "train.lrr=1"),
            "tiny with train.lrr = 1 has 1 bad key\n  unknown key 'train.lrr': did you mean 'lr'?\n"
            "next: correct --set; docs/config.md has every key\n",
        ),
        (
            ("--set", "train.epochs=1,2"),
            "--set train.epochs: trials are compared on the same images after the same epochs\n"
            "next: make another experiment and search that: invoke doctor --experiment tiny --as tiny-2 "
            "--set train.epochs=VALUE --data DATA\n",
        ),
        (
            ("--set", " folds.k=3,4"),
            "--set folds.k: trials are compared on the same images after the same epochs\n"
            "next: make another experiment and search that: invoke doctor --experiment tiny --as tiny-2 "
            "--set folds.k=VALUE --data DATA\n",
        ),
        (
            ("--set", "predict.tta=none,hflip"),
            "--set predict.tta: the AUC of a held-out fold in training does not depend on it\n"
            "next: search keys of [model], [augment], [pseudo_fakes], [pseudo_labels], [distill] or [train]\n",
        ),
        (
            ("--set", "train.deterministic=true,false"),
            "--set train.deterministic: the AUC of a held-out fold in training does not depend on it\n"
            "next: search keys of [model], [augment], [pseudo_fakes], [pseudo_labels], [distill] or [train]\n",
        ),
        (
            ("--set", "train={lr=1}"),
            "--set train: not a key of config.toml with one value\nnext: pass --set train.lr=1e-4,3e-4\n",
        ),
        (
            ("--set", "train.lr=1e-4..1e-2", "--set", "train.batch_size=0..4", "--sampler", "tpe"),
            "tiny with train.batch_size = 0 has 1 bad key\n"
            "  train.batch_size = 0: input should be greater than or equal to 1\n"
            "next: correct --set; docs/config.md has every key\n",
        ),
        (
            ("--set", "augment.recipe=light,strnog"),
            "unknown augment.recipe 'strnog': did you mean 'strong'?\n"
            "next: correct --set; docs/config.md has every key\n",
        ),
        (
            ("--set", "train.lr=1", "--fold", "2"),
            "--fold 2: this experiment has folds 0 to 1\nnext: pass --fold 0\n",
        ),
        (("--set", "train.lr=1", "--trials", "0"), "--trials 0: not 1 or more\nnext: pass --trials 1 or more\n"),
    ],
    ids=[
        "nothing",
        "unknown key",
        "epochs",
        "folds",
        "no matter",
        "kernels",
        "section",
        "ends",
        "last value",
        "fold",
        "no trial",
    ],
)
def test_what_cannot_be_searched_is_refused(
    words: tuple[str, ...], error: str, workspace: Path, competition: Path, invoke: Invoke
) -> None:
    answer = invoke("sweep", "--experiment", "tiny", "--data", str(competition), *words)
    assert (answer.code, answer.err) == (1, f"error: {error.replace('DATA', str(competition))}")
    assert not list((workspace / "experiments").glob("*/fold_0"))


def test_where_folds_hang_on_the_network_another_network_is_refused(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY.replace("[folds]\n", '[folds]\nscheme = "clusters"\n'))
    answer = invoke("sweep", "--experiment", "tiny", "--data", str(competition), "--set", "model.size=32,48")
    assert (answer.code, answer.err) == (
        1,
        "error: tiny has folds.scheme = 'clusters', which assigns folds by the features of its network: another "
        "model.size changes the folds\nnext: correct --set; docs/config.md has every key\n",
    )


def test_trials_that_would_be_the_same_are_trained_once(workspace: Path, sweep: Callable[..., str]) -> None:
    output = sweep("--set", "train.batch_size=7..8", "--sampler", "random", "--trials", "5")
    assert len(swept(workspace)) == 2
    assert output.endswith("5 trials were requested: the others would repeat one of these\n")


def test_the_leaderboard_shows_how_far_trials_came(workspace: Path, sweep: Callable[..., str], invoke: Invoke) -> None:
    sweep(*GRID)
    assert invoke("leaderboard").code == 0
    board = pd.read_csv(workspace / "experiments" / "leaderboard.csv").set_index("experiment")
    for row in swept(workspace).itertuples():
        state = board.loc[row.experiment, "state"]
        if pd.notna(row.auc_after_3):
            assert state.startswith(f"1 of 2 folds, AUC {row.auc_after_3:.4f}")
        else:
            assert state == f"fold 0 stopped after 1 of 3 epochs, AUC {row.auc_after_1:.4f}"


def test_the_leaderboard_says_what_is_a_list(workspace: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / "both"
    folder.mkdir()
    (folder / "config.toml").write_text('[group]\nmembers = ["tiny", "other"]\n')
    answer = invoke("leaderboard")
    assert (answer.code, answer.err) == (0, "")
    board = pd.read_csv(workspace / "experiments" / "leaderboard.csv").set_index("experiment")
    assert dict(board.state) == {"both": "a group of 2", "tiny": "not trained"}


# --- learning rates --------------------------------------------------------------------------------------------------


def test_a_learning_rate_is_found_with_a_picture(workspace: Path, competition: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / "tiny"
    answer = invoke("find-lr", "--experiment", "tiny", "--data", str(competition), "--steps", "40")
    assert answer.code == 0, answer.err
    tried = pd.read_csv(folder / "find_lr.csv")
    assert list(tried.columns) == ["lr", "loss"]
    assert tried.lr.iloc[0] == pytest.approx(1e-6)
    assert tried.lr.is_monotonic_increasing
    assert (folder / "find_lr.png").read_bytes().startswith(b"\x89PNG")
    assert "train.lr is 0.003 now" in answer.out
    advice = answer.out.splitlines()[-1]
    rate = float(advice.split("--set train.lr=")[1].split()[0])
    assert advice.startswith("next: invoke train-folds --experiment tiny --set train.lr=")
    falls = answer.out.split("the loss falls from a rate of ")[1].split("\n")[0]
    low, high = (float(word) for word in falls.split("; ")[0].split(" to one of "))
    assert rate == pytest.approx((low * high) ** 0.5, rel=0.1)
    assert tried.loss[tried.lr.sub(high).abs().idxmin()] < 0.5 * tried.loss[tried.lr.sub(low).abs().idxmin()]
    assert not (folder / "resolved.json").exists()  # nothing was started


def test_too_few_steps_find_no_rate(workspace: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("find-lr", "--experiment", "tiny", "--data", str(competition), "--steps", "0")
    assert (answer.code, answer.err) == (
        1,
        "error: --steps 0: too few steps to find the minimum of the loss\nnext: pass --steps 20 or more\n",
    )
    assert not (workspace / "experiments" / "tiny" / "find_lr.csv").exists()


# --- lists of experiments ------------------------------------------------------------------------------------------


@pytest.fixture
def listed(workspace: Path) -> Path:
    """A list of 'tiny' and 'other', each with two seeds."""
    for name, content in {
        "other": TINY.replace("lr = 3e-3", "lr = 1e-3"),
        "both": '[group]\nmembers = ["tiny", "other"]\n[group.grid]\nseed = [3, 4]\n',
    }.items():
        (workspace / "experiments" / name).mkdir()
        (workspace / "experiments" / name / "config.toml").write_text(content)
    return workspace / "experiments"


def test_a_group_means_its_members_in_every_command(listed: Path, competition: Path, invoke: Invoke) -> None:
    data = ("--data", str(competition))
    trained = invoke("train-folds", "--experiment", "both", *data)
    assert trained.code == 0, trained.err
    assert trained.out.endswith(f"next: invoke ensemble-submit --experiment both --data {competition}\n")
    members = {f"{name}-seed_{seed}" for name in ("tiny", "other") for seed in (3, 4)}
    assert {path.parent.parent.name for path in listed.glob("*/fold_1/manifest.json")} == members
    assert (listed / "tiny-seed_4" / "folds.csv").read_bytes() == (listed / "other-seed_3" / "folds.csv").read_bytes()
    for command, *flags in (["ensemble-submit"], ["export-onnx"], ["predict-onnx", "--device", "cpu"]):
        answer = invoke(command, "--experiment", "both", *data, *flags)
        assert answer.code == 0, answer.err
    export = listed.parent / "exports" / "both"
    submission, scored = (pd.read_csv(export / name) for name in ("submission.csv", "onnx_scores.csv"))
    joined = submission.merge(scored, on="img_name")
    assert len(joined) == 20
    assert (joined.y_pred_x - joined.y_pred_y).abs().max() < 1e-5
    assert invoke("verify", "--experiment", "both").code == 0


def test_several_experiments_are_trained_by_one_command(listed: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("train-folds", "--experiment", "tiny", "--experiment", "other", "--data", str(competition))
    assert answer.code == 0, answer.err
    assert answer.out.endswith(f" --experiment tiny --experiment other --data {competition}\n")
    assert all((listed / name / "oof.csv").is_file() for name in ("tiny", "other"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            '[group]\nmembers = ["tiny"]\n[train]\nlr = 1\n',
            "{path} is a group of experiments; it cannot have train in addition to [group]\n"
            "next: set them in the members of the group\n",
        ),
        (
            '[group]\nmembers = ["both"]\n',
            "{path} has the member both, which is a group itself\nnext: replace both by its members\n",
        ),
        (
            "[group]\nmembers = []\n",
            "{path} has 1 bad key\n  group.members = []: list should have at least 1 item after validation, not 0\n"
            "next: correct {path}; docs/config.md lists every key with its default\n",
        ),
        (
            '[group]\nmembers = ["tiny"]\n[group.grid]\nseed = []\n',
            "{path}: group.grid has no value for seed\nnext: correct {path}\n",
        ),
        (
            '[group]\nmembers = ["tiny"]\n[group.grid]\nseed = [1, 1]\n',
            "an experiment is named twice: tiny-seed_1, tiny-seed_1\nnext: name each one once\n",
        ),
        (
            "[group.grid]\nseed = [1, 2]\n",
            "{path}: [group.grid] without group.members\nnext: correct {path}\n",
        ),
        (
            '[group]\nmembers = ["tiny"]\n[group.grid]\nseed = [1, 2]\n"augment.recipe" = ["light", "no"]\n',
            "unknown augment.recipe 'no': did you mean 'none'?\nnext: correct [group.grid] in {path}\n",
        ),
        (
            '[group]\nmembers = ["tiny"]\n[group.grid]\n"model.resize" = ["squash", "crop"]\n',
            "the experiments differ in model.resize: crop, squash\n"
            "next: set the same model.resize in each config.toml; then train again\n",
        ),
    ],
    ids=["other sections", "itself", "nothing", "no value", "the same twice", "no list", "unknown", "not one ensemble"],
)
def test_a_list_that_says_more_is_refused(content: str, error: str, listed: Path, invoke: Invoke) -> None:
    path = listed / "both" / "config.toml"
    path.write_text(content)
    answer = invoke("train-folds", "--experiment", "both")
    assert (answer.code, answer.err) == (1, "error: " + error.format(path=path))
    assert {place.name for place in listed.iterdir()} == {"tiny", "other", "both"}  # no variant is half a list


@pytest.mark.parametrize("command", ["doctor", "score", "find-lr"])
def test_commands_for_one_experiment_refuse_a_group(command: str, listed: Path, invoke: Invoke) -> None:
    answer = invoke(command, "--experiment", "both")
    assert (answer.code, answer.err) == (
        1,
        f"error: {listed}/both/config.toml is a group of experiments: tiny, other\n"
        "next: name one of them with --experiment\n",
    )


def test_a_variant_that_was_changed_is_refused(listed: Path, competition: Path, invoke: Invoke) -> None:
    path = listed / "tiny-seed_3" / "config.toml"
    path.parent.mkdir()
    path.write_text(TINY)
    answer = invoke("train-folds", "--experiment", "both", "--data", str(competition))
    assert (answer.code, answer.err) == (
        1,
        f"error: {path} differs from tiny with these keys: one of the two files was changed\n"
        f"next: undo the change, or remove the variant: rm -r {path.parent}\n",
    )

"""The leaderboard ranks experiments on the same images, shows public scores, and fits into the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ffdi.core import console, manifests
from tests.conftest import TINY, Invoke


def clone(root: Path, name: str, data: str | None = None) -> Path:
    """A copy of 'tiny'; `data`: of other images."""
    folder = root / "experiments" / name
    shutil.copytree(root / "experiments" / "tiny", folder)
    if data is not None:
        path = folder / "resolved.json"
        content = manifests.read_manifest(path)
        for key in ("schema", manifests.DIGEST):
            content.pop(key, None)
        manifests.write_manifest(path, {**content, "data": data})
    return folder


def test_experiments_are_ranked_on_their_own_images(copy: Path, invoke: Invoke) -> None:
    clone(copy, "twin")
    clone(copy, "elsewhere", "ab" * 32)
    (copy / "experiments" / "idle").mkdir()
    (copy / "experiments" / "idle" / "config.toml").write_text(TINY)
    (copy / "experiments" / "both").mkdir()
    (copy / "experiments" / "both" / "config.toml").write_text('[group]\nmembers = ["tiny", "twin"]\n')
    answer = invoke("leaderboard", "--json")
    output = json.loads(answer.out)
    digest = manifests.read_manifest(copy / "experiments" / "tiny" / "resolved.json")["data"][:8]
    named = {table["heading"].partition(" on ")[2]: [row[0] for row in table["rows"]] for table in output["tables"]}
    folder = next(iter(named)).partition(",")[0]
    assert named == {f"{folder}, images {digest}": ["tiny", "twin"], f"{folder}, images abababab": ["elsewhere"]}
    assert "not trained: 2 experiments, which --all shows" in output["lines"]
    board = pd.read_csv(copy / "experiments" / "leaderboard.csv").set_index("experiment")
    assert set(board.index) == {"tiny", "twin", "elsewhere", "idle", "both"}
    tables = json.loads(invoke("leaderboard", "--all", "--json").out)["tables"]
    assert [row[0] for row in tables[-1]["rows"]] == ["both", "idle"]
    assert tables[-1]["heading"] == "AUC of 2 experiments without data"


def test_the_last_public_score_stands_beside_the_own_one(copy: Path, invoke: Invoke) -> None:
    sent = [
        {"time": "2026-01-01T00:00:00", "public_score": "0.5", "members": ["tiny"]},
        {"time": "2026-01-02T00:00:00", "public_score": "0.625", "members": ["tiny"]},
        {"time": "2026-01-03T00:00:00", "members": ["tiny"]},
        {"time": "2026-01-04T00:00:00", "public_score": "0.75", "members": ["tiny", "twin"]},
    ]
    manifests.write_manifest(copy / "exports" / "tiny" / "submissions.json", {"sent": sent})
    assert invoke("leaderboard").code == 0
    row = pd.read_csv(copy / "experiments" / "leaderboard.csv").set_index("experiment").loc["tiny"]
    assert row.public_auc == 0.625
    assert row.public_gap == pytest.approx(0.625 - row.oof_auc)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_each_experiment_takes_one_line(
    width: int, copy: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(console, "PLAIN_WIDTH", width)
    names = [
        "a-long-name-of-experiments-lr_0.001-recipe_strong",
        "a-long-name-of-experiments-lr_0.003-recipe_light",
    ]
    for name in names:
        clone(copy, name)
    shutil.rmtree(copy / "experiments" / names[1] / "fold_1")
    lines = invoke("leaderboard").out.splitlines()
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 3
    assert all(len(line) <= width for line in lines if line.startswith(("│", "┃", "┏")))
    shown = " ".join(rows)
    assert "recipe_strong" in shown
    assert "recipe_light" in shown
    assert width > 120 or any(
        line.startswith(f"not shown in {width} columns, but in leaderboard.csv: ") for line in lines
    )


def test_an_experiment_with_another_config_is_not_suggested(copy: Path, invoke: Invoke) -> None:
    config = clone(copy, "ahead") / "config.toml"
    assert invoke("leaderboard").out.splitlines()[-1] == "next: invoke report --experiment ahead"
    config.write_text(config.read_text().replace("lr = 3e-3", "lr = 1e-3"))
    assert invoke("leaderboard").out.splitlines()[-1] == "next: invoke report --experiment tiny"

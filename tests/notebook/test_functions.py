"""The functions of ffdi call the commands."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from invoke import Collection

import ffdi
import tasks
from ffdi.core import cli
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.notebook import results
from ffdi.notebook.registry import functions
from tests.conftest import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WITHOUT_FUNCTION = {"serve"}
"""Commands that run until they are stopped."""


def test_import_of_ffdi_imports_no_function() -> None:
    code = "import sys, ffdi; print([one for one in sys.modules if one.startswith(('ffdi.', 'rich', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_function_for_each_command_takes_its_flags() -> None:
    commands = Collection.from_module(tasks).tasks
    assert set(commands) - WITHOUT_FUNCTION == set(functions)
    for name, function in functions.items():
        flags = {one.name for one in commands[name].get_arguments()} - {*cli.OutputOptions.__dataclass_fields__}
        keywords = {"name" if one == "as_" else one for one in flags}
        assert set(function.flags) == keywords
        assert set(inspect.signature(getattr(ffdi, function.name)).parameters) == keywords, name
        listed = getattr(ffdi, function.name).__doc__
        assert [one for one in keywords if f"{one}: " not in listed] == []


def test_the_names_of_ffdi_are_those_of_the_functions() -> None:
    assert {one.name for one in functions.values()} | {"FFDIError", "Stopped"} == set(ffdi.__all__)
    assert set(ffdi.__all__) <= set(dir(ffdi))
    with pytest.raises(AttributeError, match="module 'ffdi' has no attribute 'trian'"):
        _ = ffdi.trian


def test_a_type_checker_sees_the_functions(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import ffdi\nx: int = ffdi.train('a', jobs=2).scores\nffdi.train('a', jobs='2')\nffdi.trian\n")
    check = [sys.executable, "-m", "mypy", str(script)]
    done = subprocess.run(check, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert [line.partition(" error: ")[2] for line in done.stdout.splitlines()[:-1]] == [
        'Incompatible types in assignment (expression has type "DataFrame", variable has type "int")  [assignment]',
        'Argument "jobs" to "train" has incompatible type "str"; expected "int | None"  [arg-type]',
        'Module has no attribute "trian"; maybe "train"?  [attr-defined]',
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"epochs": 3},
            "ffdi.train() has no keyword 'epochs', but config.toml has train.epochs\n"
            "next: pass set={'train.epochs': 3}",
        ),
        (
            {"max_tim": "8h"},
            "ffdi.train() has no keyword 'max_tim': did you mean 'max_time'?\nnext: help(ffdi.train) explains them",
        ),
    ],
)
def test_an_unknown_keyword_names_the_closest(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ffdi.train("tiny", **values)  # type: ignore[arg-type]
    assert str(caught.value) == expected


def test_scores_are_those_of_the_files_to_the_last_digit(copy: Path) -> None:
    found = ffdi.score("tiny")
    metrics = json.loads((copy / "experiments" / "tiny" / "metrics.json").read_text())
    assert found.scores.loc["OOF, pooled", "AUC"] == metrics["pooled"]["auc"]
    assert found.scores.loc["fold 1", "log loss"] == metrics["folds"]["1"]["log_loss"]
    assert found.files == [copy / "experiments" / "tiny" / "metrics.json"]
    assert found.next == ['ffdi.report("tiny")']
    assert list(found.tables)[1] == "the same networks on the validation split"
    assert repr(found) == "<ScoreResult: 2 tables, 1 file>"


def test_a_suggested_call_can_be_run(copy: Path) -> None:
    (call,) = ffdi.leaderboard().next
    page = eval(call)
    assert isinstance(page, results.ReportResult)
    assert page.path == copy / "exports" / "tiny" / "report.html"


def test_the_page_is_shown_unless_it_is_too_large(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ffdi.report("tiny", device="cpu")
    shown = page._repr_html_()
    assert shown.startswith('<iframe title="report"')
    assert "&lt;h1&gt;tiny&lt;/h1&gt;" in shown
    assert "<h1>" not in shown
    monkeypatch.setattr(results, "MOST_SHOWN", 1000)
    assert page._repr_html_().endswith(f"Open {page.path} in a browser.</p>")
    assert copy.is_dir()


def test_a_link_in_the_page_stays_in_the_page(trained: Path, tmp_path: Path, chromium: Browser) -> None:
    shutil.copytree(trained / "experiments", tmp_path / "experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFDI_ROOT", str(tmp_path))
        shown = ffdi.report("tiny", device="cpu")._repr_html_()
    place = tmp_path / "notebook.html"
    place.write_text(f"<!doctype html><title>cells</title>{shown}")
    page = chromium.new_page()
    page.goto(place.as_uri())
    _, frame = page.frames
    frame.locator("nav a").last.click()
    assert frame.title() == "tiny: ffdi report"
    frame.wait_for_function("scrollY > 100")
    frame.locator(".gallery button").first.click()
    assert frame.locator("dialog").first.is_visible()


def test_the_submission_and_predictions_are_frames(copy: Path, competition: Path) -> None:
    submission = ffdi.ensemble_submit("tiny").submission
    assert list(submission) == ["img_name", "y_pred"]
    images = competition / "testset"
    predicted = ffdi.predict_onnx("tiny", images=images, output=copy / "scores.csv", device="cpu")
    assert predicted.path == copy / "scores.csv"
    assert sorted(predicted.predictions.img_name) == sorted(submission.img_name)
    both = submission.merge(predicted.predictions, on="img_name")
    assert (both.y_pred_x - both.y_pred_y).abs().max() < 1e-4
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(f"{config.read_text()}\n[submission]\nheader = false\n")
    pd.testing.assert_frame_equal(ffdi.ensemble_submit("tiny").submission, submission)


def test_the_leaderboard_and_a_comparison_are_frames(copy: Path) -> None:
    table = ffdi.leaderboard(all=True).table.set_index("experiment")
    metrics = json.loads((copy / "experiments" / "tiny" / "metrics.json").read_text())
    assert table.loc["tiny", "oof_auc"] == pytest.approx(metrics["pooled"]["auc"])
    rows = ffdi.compare("tiny", "tiny").differences
    assert rows.loc["all images", "real"] == 32


def test_a_training_takes_settings_and_a_new_name(workspace: Path, competition: Path) -> None:
    run = ffdi.train("tiny", data=competition, set={"train.epochs": 1, "folds.k": 3}, name="mine", folds=[0, 1])
    changed, base = ((workspace / "experiments" / name / "config.toml").read_text() for name in ("mine", "tiny"))
    assert "epochs = 1" in changed
    assert "epochs = 3" in base
    assert (workspace / "experiments" / "mine" / "fold_1").is_dir()
    assert not (workspace / "experiments" / "mine" / "fold_2").exists()
    assert run.next == [f'ffdi.train("mine", data="{competition}")']
    with pytest.raises(ExperimentError, match=r"this call has printed no table 'out-of-fold \(OOF\) scores'"):
        _ = run.scores
    rest = ffdi.train("mine")
    assert list(rest.scores.index) == ["fold 0", "fold 1", "fold 2", "OOF, mean of folds", "OOF, pooled"]


def test_a_search_returns_the_keys_that_it_suggests(workspace: Path, competition: Path) -> None:
    rate = ffdi.find_lr("tiny", data=competition, steps=30)
    assert rate.values == {"train.lr": rate.rate}
    assert list(rate.losses) == ["lr", "loss"]
    assert '<img alt="loss by learning rate" src="data:image/png;base64,iVBOR' in rate._repr_html_()
    search = ffdi.sweep("tiny", data=competition, set={"train.lr": [3e-3, 1e30]})
    assert search.values == {"train.lr": 3e-3}
    assert set(search.trials["train.lr"]) == {3e-3, 1e30}
    assert workspace.is_dir()


def test_an_error_names_the_call_that_mends_it(workspace: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        ffdi.report("tiny")
    assert caught.value.hint == 'ffdi.train("tiny")'
    assert workspace.is_dir()

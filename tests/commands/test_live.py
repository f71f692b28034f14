"""`report --live`: beside a training, in a browser, and on its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ffdi.commands.shared import live_pages
from ffdi.core import files
from ffdi.core.errors import ExperimentError
from ffdi.experiments import progress
from ffdi.experiments.progress import Progress
from ffdi.experiments.workspace import Workspace
from tests import browser
from tests.conftest import PROJECT, TINY, Invoke

CONFIG = TINY.replace("k = 2", "k = 3").replace("epochs = 3", "epochs = 40")
PLACE = "Math.round(document.querySelector('table').getBoundingClientRect().top)"
"""Where the table is in the window."""
LIMIT = 240.0
"""Seconds after which a state counts as never reached."""


class Running:
    """`invoke WORDS` in a process of its own, which ends with the block."""

    def __init__(self, stack: ExitStack, root: Path, *words: str) -> None:
        command = [sys.executable, "-m", "invoke", *words]
        environment = {**os.environ, "FFDI_ROOT": str(root)}
        self.output = root.parent / f"{words[0]}.txt"
        with self.output.open("w") as out:
            self.process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=out)
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)


def wait_until(is_reached: Callable[[], bool], *running: Running) -> None:
    deadline = time.monotonic() + LIMIT
    while not is_reached():
        assert time.monotonic() < deadline, [one.output.read_text() for one in running]
        assert all(one.process.poll() in (None, 0) for one in running), [one.output.read_text() for one in running]
        time.sleep(0.2)


def read_status(page: Page) -> str:
    return page.text_content("[role=status]") or ""


def wait_until_status(page: Page, words: str, *running: Running) -> None:
    wait_until(lambda: words in read_status(page), *running)


def check(page: Page) -> None:
    """Nothing is cut off, and axe finds nothing."""
    browser.check_both_themes(page)


def test_a_page_follows_a_training_until_its_end(workspace: Path, competition: Path, chromium: Browser) -> None:
    folder = workspace / "experiments" / "tiny"
    (folder / "config.toml").write_text(CONFIG)
    path = folder / "live.html"
    with ExitStack() as stack:
        live = Running(stack, workspace, "report", "--live", "-e", "tiny")
        wait_until(path.is_file, live)
        shown = [
            stack.enter_context(browser.opened(chromium, path.as_uri(), width, offline=True))
            for width in browser.WIDTHS
        ]
        pages = [page for page, _ in shown]
        for page in pages:
            assert read_status(page).startswith("Waiting for the training to start: invoke train-folds")
            check(page)
        train = Running(stack, workspace, "train-folds", "-e", "tiny", "--jobs", "1", "--data", str(competition))
        for page in pages:
            wait_until_status(page, " of 3 folds finished", live, train)
        pages[0].wait_for_selector("svg")
        pages[0].evaluate(
            "window.stays = true; one = document.querySelector('table'); one.tabIndex = 0; one.focus();"
            "one.scrollIntoView()"
        )
        before = pages[0].evaluate(PLACE)
        first = pages[0].locator("tbody td").first
        wait_until(lambda: first.text_content() == "finished, 40 epochs", live, train)
        assert pages[0].evaluate(PLACE) == pytest.approx(before, abs=2)
        assert pages[0].evaluate("[window.stays, document.activeElement.tagName, scrollY > 0]") == [
            True,
            "TABLE",
            True,
        ]
        for page in pages:
            check(page)
        wait_until(lambda: live.process.poll() == 0, live, train)
        for page in pages:
            wait_until_status(page, "The training is finished: all 3 folds.", live)
        metrics = json.loads((folder / "metrics.json").read_text())
        rows = [f"fold {fold}" for fold in range(3)]
        scores = [f"{metrics['folds'][str(fold)]['auc']:.4f}" for fold in range(3)]
        for page, messages in shown:
            assert page.locator(".tiles strong").first.text_content() == f"{metrics['pooled']['auc']:.4f}"
            assert page.locator("tbody th").all_text_contents() == rows
            assert page.locator("tbody td:nth-child(4)").all_text_contents() == scores
            assert page.locator("code").all_text_contents() == ["invoke report --experiment tiny"]
            assert page.text_content("#ended") == "The training is finished."
            assert page.locator("svg").count() == 2
            check(page)
            assert messages == []
        assert pages[0].evaluate(PLACE) == pytest.approx(before, abs=2)
        output = live.output.read_text()
        assert f"\nopen {path} in a browser; Ctrl-C ends the command\n" in output
        assert "\nfold 1  finished, out-of-fold AUC " in output
        assert f"\nwritten: {path}: open it in a browser\nnext: invoke report --experiment tiny\n" in output


def test_a_page_says_that_it_is_not_renewed(copy: Path, chromium: Browser) -> None:
    page_file = make_page(copy)
    page_file.write()
    clock = "const now = Date.now; Date.now = () => now() + (window.later ?? 0)"
    with browser.opened(chromium, "about:blank", 800) as (page, messages):
        page.add_init_script(clock)
        page.goto(page_file.path.as_uri())
        assert page.is_hidden("#stale")
        page.evaluate("window.later = 10 * 60 * 1000")
        page.wait_for_selector("#stale:visible")
        command = "invoke report --live --experiment tiny"
        assert (page.text_content("#stale") or "").endswith(f"cannot write here. To renew it: {command}")
        assert "10 min ago" in (page.text_content("#age") or "")
        assert browser.barriers(page) == []
        page_file.write()
        page.wait_for_selector("#stale", state="hidden")
        assert messages == []
    with browser.opened(chromium, "about:blank", 800) as (page, messages):
        page_file.write(ended="Over.")
        page.goto(page_file.path.as_uri())
        assert page.text_content("#ended") == "Over."
        assert page.locator("noscript, iframe").count() == 0


def test_the_page_is_chinese(copy: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_LANG", "zh")
    page_file = make_page(copy)
    page_file.read()
    page_file.write(ended="The training is finished.")
    for width in browser.WIDTHS:
        with browser.opened(chromium, page_file.path.as_uri(), width, offline=True) as (page, messages):
            check(page)
            assert page.get_attribute("html", "lang") == "zh"
            headings = page.locator("h2, thead th, #ended").all_text_contents()
            assert [one for one in headings if re.search("[A-Za-z]{4}", one)] == []
            assert messages == []


def make_page(root: Path) -> live_pages._LiveFile:
    experiment = Workspace(root, PROJECT).get_experiment("tiny")
    return live_pages._LiveFile(experiment.live_path, [experiment], " --experiment tiny")


def test_a_finished_training_is_shown_once(copy: Path, invoke: Invoke) -> None:
    answer = invoke("report", "--live", "-e", "tiny")
    path = copy / "experiments" / "tiny" / "live.html"
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == (
        f"report --live: tiny\nwritten: {path}: open it in a browser\nnext: invoke report --experiment tiny\n"
    )
    assert "The training is finished: all 2 folds." in path.read_text()


def test_an_unknown_experiment_is_an_error(workspace: Path, invoke: Invoke) -> None:
    answer = invoke("report", "--live", "-e", "tony")
    assert answer.code == 1
    assert answer.err.startswith("error: no experiment 'tony'")
    assert list(workspace.rglob("*.html")) == []


def interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_page_and_says_so(workspace: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", interrupt)
    answer = invoke("report", "--live", "-e", "tiny")
    path = workspace / "experiments" / "tiny" / "live.html"
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == (
        f"report --live: tiny\nopen {path} in a browser; Ctrl-C ends the command\nwritten: {path}\n"
        "ended; the training is not affected, and the same command follows it again\n"
    )
    assert "Not renewed any more: the command was stopped." in path.read_text()
    answer = invoke("report", "--live", "-e", "tiny", "--json")
    first, last = map(json.loads, answer.out.splitlines())
    assert first == {"command": "report", "page": str(path)}
    assert (last["error"], last["written"]) == (None, [str(path)])


def test_several_experiments_are_on_one_page(copy: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy / "experiments" / "other"
    folder.mkdir()
    (folder / "config.toml").write_text(TINY)

    monkeypatch.setattr(time, "sleep", interrupt)
    path = copy / "experiments" / "tiny+other.live.html"
    assert f"\nwritten: {path}\n" in invoke("report", "--live", "-e", "tiny", "-e", "other").out
    page = path.read_text()
    assert "The training is finished: all 2 folds." in page
    assert "Waiting for the training to start: invoke train-folds --experiment other" in page


def test_a_page_is_written_again_only_when_it_must_be(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = make_page(copy)
    experiment = Workspace(copy, PROJECT).get_experiment("tiny")
    assert page.read() == [
        f"fold {fold}  finished, out-of-fold AUC {score['auc']:.4f}"
        for fold, score in json.loads(experiment.metrics_path.read_text())["folds"].items()
    ]
    written = list[str]()
    monkeypatch.setattr(files, "write_text", lambda _, text: written.append(text))
    page.write_if_due()
    assert page.read() == []
    page.write_if_due()
    assert len(written) == 1
    experiment.get_fold(1).manifest_path.unlink()
    known = Progress(3, epoch=1, step=1, steps=2)
    monkeypatch.undo()
    progress.write_progress(experiment.get_fold(1), known, experiment.read_identity(), experiment.read_folds_digest())
    page.read()
    assert page.describe() == (0.75, "fold 1 in epoch 2 of 3")
    page.write_if_due()
    assert "in epoch 2 of 3" in page.path.read_text()


def test_a_disk_may_be_away_for_a_while(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = make_page(copy)

    def fail(_path: Path, _text: str) -> None:
        raise ExperimentError("no disk")

    monkeypatch.setattr(files, "write_text", fail)
    for _ in range(live_pages.MAX_FAILURES):
        page.write_if_due()
    with pytest.raises(ExperimentError, match="no disk"):
        page.write_if_due()


def test_torch_is_not_imported(trained: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ffdi.commands import report; "
        "from ffdi.commands.shared.options import ReportOptions; from ffdi.experiments.workspace import Workspace; "
        "from ffdi.experiments.experiment import Experiment; "
        f"Experiment.live_path = Path({str(tmp_path / 'live.html')!r}); "
        f"report.run(Workspace(Path({str(trained)!r}), Path({str(trained)!r})), "
        "ReportOptions(experiment=('tiny',), live=True)); print(sorted({'torch', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr

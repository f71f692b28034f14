"""docs/notebook.ipynb runs as it is in a Jupyter kernel, on a smaller competition and a smaller network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from ffdi.core import console, manifests
from ffdi.demo import competition
from ffdi.experiments.workspace import Workspace
from tests.conftest import PROJECT, TINY, skip_export_trial, write_competition

NOTEBOOK = PROJECT / "docs" / "notebook.ipynb"


def list_outputs(notebook: NotebookNode, cell: str, kind: str) -> list[Any]:
    """The outputs of a kind, below the cell of an id."""
    (found,) = (one for one in notebook.cells if one.id == cell)
    return [one for one in found.outputs if one.output_type == kind]


def read_text(notebook: NotebookNode, cell: str) -> str:
    """What a cell prints."""
    return "".join(one.text for one in list_outputs(notebook, cell, "stream") if one.name == "stdout")


def read_result(notebook: NotebookNode, cell: str, form: str = "text/plain") -> str:
    """The value of the last line of a cell."""
    (found,) = list_outputs(notebook, cell, "execute_result")
    return str(found.data[form])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the notebook, with an experiment `quickstart` that trains in seconds, on images that are there."""
    root = tmp_path_factory.mktemp("notebook")
    demo = Workspace(root, PROJECT).demo_folder
    write_competition(demo)
    manifests.write_manifest(demo / "manifest.json", {"version": competition.VERSION, "seed": 0})
    folder = root / "experiments" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'{TINY}\n[data]\nroot = "data/quickstart"\n')
    skip_export_trial(root, "quickstart")
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FFDI_ROOT", raising=False)
        patch.setenv("FORCE_COLOR", "1")  # as some services set it: no colour codes and no bars all the same
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(root)}}).execute()
    return notebook


def test_the_notebook_is_stored_without_outputs() -> None:
    stored = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    nbformat.validate(stored)
    assert [one.id for one in stored.cells if one.get("outputs") or one.get("execution_count")] == []


def test_commands_print_plain_lines(run: NotebookNode) -> None:
    printed = read_text(run, "train")
    assert re.search(r"^fold 1  epoch  3/3  loss \d", printed, re.MULTILINE)
    assert '\nnext: ffdi.ensemble_submit("mine")\n' in printed
    tables = [line for line in printed.splitlines() if line.startswith(("┏", "┃", "│"))]
    assert tables
    assert max(map(len, tables)) <= console.NOTEBOOK_WIDTH
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert max(map(len, printed.splitlines())) < 400
    kinds = {one.output_type for cell in run.cells for one in cell.get("outputs", ())}
    assert kinds == {"stream", "execute_result"}
    assert [one.text for cell in run.cells for one in cell.get("outputs", ()) if one.get("name") == "stderr"] == []


def test_results_are_frames_and_figures(run: NotebookNode, root: Path) -> None:
    assert "images" in read_result(run, "doctor")
    assert [one.split()[:2] for one in read_result(run, "train").splitlines()][1] == ["fold", "0"]
    assert "OOF, pooled" in read_result(run, "train")
    assert read_result(run, "find-lr", "text/html").startswith("<div><img ")
    assert read_result(run, "report", "text/html").startswith("<iframe ")
    assert "ok" in read_result(run, "leaderboard").splitlines()[1]
    assert "img_name" in read_result(run, "submit")
    submission = pd.read_csv(root / "exports" / "mine" / "submission.csv")
    assert len(submission) == 20
    assert submission.img_name[0] in read_result(run, "submit")
    scores = pd.read_csv(root / "exports" / "mine" / "onnx_scores.csv")
    assert (submission.merge(scores, on="img_name").pipe(lambda both: both.y_pred_x - both.y_pred_y).abs() < 1e-2).all()


def test_an_error_says_what_to_do(run: NotebookNode) -> None:
    assert read_text(run, "errors") == (
        "ffdi.train() has no keyword 'epochs', but config.toml has train.epochs\nnext: pass set={'train.epochs': 5}\n"
    )


def test_child_processes_of_a_kernel(root: Path) -> None:
    """Folds at once, loader workers, and the processes that draw portraits: the main module of a kernel has no file."""
    cells = [
        'import ffdi\nffdi.train("quickstart", name="two", set={"train.epochs": 1}, jobs=2, workers=1).finished',
        'ffdi.train("two", folds="7")',
        "from pathlib import Path\nfrom ffdi.demo import competition\n"
        "competition.COUNTS.update(train=4, val=4, test=4)\ncompetition.write_competition(Path('drawn'))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    client = NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(root)}})
    client.execute()
    trained, refused, drawn = (one.outputs for one in notebook.cells)
    assert trained[-1].data["text/plain"] == "True"
    assert (root / "experiments" / "two" / "oof.csv").is_file()
    assert refused[0].traceback == ["error: --folds 7: this experiment has folds 0 to 1\nnext: pass --folds 0,1"]
    assert drawn == []
    assert len(list((root / "drawn" / "trainset").iterdir())) == 4

"""The bundle for Kaggle, and its notebooks run as Kaggle runs them: elsewhere, from what it brings alone."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import timm
from safetensors.torch import save_file

from ffdi import __version__
from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import layout
from ffdi.submission import kaggle_bundle
from tests.conftest import PROJECT, Invoke, run

WHEEL = f"ffdi-{__version__}-py3-none-any.whl"


def write_wheel(folder: Path, name: str) -> None:
    """A wheel of a package that is installed here, with nothing in it."""
    name, version = name.replace("-", "_"), metadata.version(name)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of everything that a bundle fetches."""
    folder = tmp_path_factory.mktemp("shelf")
    for requirement in kaggle_bundle.list_requirements(PROJECT):
        write_wheel(folder, re.split(r"[=<>]", requirement)[0])
    return folder


@pytest.fixture(scope="module")
def bundle(trained: Path, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a trained and exported experiment, with wheels."""
    root = tmp_path_factory.mktemp("bundle") / "workspace"
    shutil.copytree(trained, root)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PIP_NO_INDEX", "1")
        patched.setenv("PIP_FIND_LINKS", str(shelf))
        output = run(root, "kaggle-bundle", "--experiment", "tiny", "--wheels")
    folder = root / "exports" / "tiny" / "kaggle"
    count = len(kaggle_bundle.list_requirements(PROJECT))
    assert "\ndownloading wheels for Python 3.12, all but torch, torchvision, timm\n" in output
    assert f"\n{count} wheels downloaded\n" in output
    assert re.search(rf"\nwritten: {folder} \(train.ipynb and infer.ipynb; \d+\.\d MiB\)\n", output)
    assert output.endswith(
        f"\nnext: kaggle datasets init -p {folder}; set its name in dataset-metadata.json there; "
        f"then kaggle datasets create -p {folder} -r zip\n"
    )
    return folder


def test_all_that_is_wanted_is_there_and_nothing_else(bundle: Path) -> None:
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    exported = {
        f"export/{path.relative_to(bundle.parent).as_posix()}"
        for path in bundle.parent.rglob("*")
        if path.is_file() and "kaggle" not in path.parts
    }
    kept = {name for name in there if name.startswith("export/")}
    assert {"export/model.onnx", "export/bundle.json", "export/predict.py", "export/golden/golden.csv"} <= kept
    assert kept <= exported
    assert {name for name in there - kept if not name.startswith("wheels/")} == {
        *(WHEEL, "tasks.py", "train.ipynb", "infer.ipynb", "experiments/tiny/config.toml"),
    }
    inside = zipfile.ZipFile(bundle / WHEEL).namelist()
    shipped = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "ffdi").rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == shipped
    assert {"ffdi/pages/report.html.j2", "ffdi/pages/style.css"} <= set(inside)


def executed(notebook: Path, changed: dict[str, str], site: Path) -> str:
    """Runs a notebook's cells in a Python that has ffdi from `site` alone, with other folders than Kaggle's."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for old, new in changed.items():
        assert old in code
        code = code.replace(old, new)
    site.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("FFDI_ROOT", "PYTHONPATH")}
    environment = {**kept, "PYTHONPATH": str(site), "PIP_TARGET": str(site), "PIP_UPGRADE": "1"}
    command = [sys.executable, "-c", code + "\nimport ffdi\nprint('ffdi of', ffdi.__file__)"]
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ffdi of {site}" in done.stdout
    return done.stdout


def test_its_notebooks_run_from_what_it_brings(bundle: Path, competition: Path, tmp_path: Path) -> None:
    given, work = tmp_path / "input", tmp_path / "working"
    shutil.copytree(bundle, given / "my-bundle")
    for path in sorted((given / "my-bundle").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    images, lists = given / "datasets" / "owner" / "faces" / "deep", given / "competitions" / "deepfakes"
    shutil.copytree(competition / "trainset", images / "trainset")
    shutil.copytree(competition, lists, ignore=shutil.ignore_patterns("trainset"))
    changed = {"/kaggle/input": str(given), "/kaggle/working": str(work)}
    work.mkdir()
    printed = executed(given / "my-bundle" / "train.ipynb", changed, tmp_path / "site")
    assert f"Python {platform.python_version()}, torch {metadata.version('torch')}, timm " in printed
    assert re.search(r"^(no GPU|.+, \d+ MiB, [\d.]+)$", printed, re.MULTILINE)
    assert f"data: {images / 'trainset'}\n" in printed
    assert f"data: {lists / 'trainset_label.txt'}\n" in printed
    before = bundle.parent
    assert (work / "submission.csv").read_bytes() == (before / "submission.csv").read_bytes()
    assert (work / "exports" / "tiny" / "report.html").is_file()

    shutil.rmtree(work)
    work.mkdir()
    executed(
        given / "my-bundle" / "infer.ipynb",
        changed,
        tmp_path / "site",
    )
    found, scored = (
        pd.read_csv(path, index_col="img_name") for path in (work / "submission.csv", before / "onnx_scores.csv")
    )
    assert set(found.index) == set(scored.index)
    # the notebook takes the fastest runtime, which may multiply in fewer bits
    assert (found.y_pred[scored.index] - scored.y_pred).abs().max() < 5e-3


def test_data_that_cannot_be_gathered_is_named(tmp_path: Path) -> None:
    patterns = layout.list_patterns(DataConfig.model_validate({"train": {"labels": "my lists [1]/train.csv"}}))
    for folder in ("bundle/experiments/train", "one/docs", "datasets/me/two/my lists [1]"):
        (tmp_path / folder).mkdir(parents=True)
    (data,) = Path(kaggle_bundle.gather_inputs(tmp_path, patterns)).iterdir()
    assert data.resolve() == tmp_path / "datasets" / "me" / "two" / "my lists [1]"
    (tmp_path / "one" / "my lists [1]").mkdir()
    with pytest.raises(DataError) as clash:
        kaggle_bundle.gather_inputs(tmp_path, patterns)
    assert str(clash.value) == (
        "several inputs have data with the same name\n"
        f"  my lists [1]: {tmp_path / 'one/my lists [1]'}, {tmp_path / 'datasets/me/two/my lists [1]'}\n"
        "next: set DATA to the folder with the label files"
    )
    with pytest.raises(
        DataError, match=rf"^{tmp_path} has no x, y\*; it has {tmp_path}/bundle/experiments, .*\n.*"
    ) as none:
        kaggle_bundle.gather_inputs(tmp_path, ["x", "y*"])
    assert none.value.hint == "attach the data, or set DATA to the folder with the label files"


def test_starting_weights_come_along(workspace: Path, invoke: Invoke) -> None:
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(weights, workspace / "mine.safetensors")
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace("size = 32", 'size = 32\nweights_file = "mine.safetensors"'))
    folder = workspace / "exports" / "tiny" / "kaggle"
    answer = invoke("kaggle-bundle", "--experiment", "tiny")
    assert (answer.code, answer.err) == (0, "")
    assert "\nwithout an exported graph: invoke export-onnx --experiment tiny makes one\n" in answer.out
    (copied,) = (folder / "weights").iterdir()
    assert re.fullmatch(r"test_resnet-[0-9a-f]{8}\.safetensors", copied.name)
    assert copied.read_bytes() == (workspace / "mine.safetensors").read_bytes()
    assert f'weights_file = "weights/{copied.name}"' in (folder / "experiments/tiny/config.toml").read_text()
    assert not (folder / "infer.ipynb").exists()
    (folder / "dataset-metadata.json").write_text("{}")
    answer = invoke("kaggle-bundle", "--experiment", "tiny")
    assert answer.out.endswith(f"\nnext: kaggle datasets version -p {folder} -r zip -m MESSAGE\n")
    assert (folder / "dataset-metadata.json").read_text() == "{}"


def test_what_keeps_a_bundle_from_being_made(
    copy: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy / "exports" / "tiny"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    answer = invoke("kaggle-bundle", "--experiment", "tiny", "--wheels")
    assert answer.code == 1
    assert answer.err.startswith("error: pip download failed (exit code 1)\n  ")
    assert "No matching distribution found for albumentations==2.0.8\n" in answer.err
    assert answer.err.endswith("next: correct that, and run the same command again; nothing was written\n")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")
    answer = invoke("kaggle-bundle", "--experiment", "tiny")
    assert answer.err == (
        f"error: {folder / 'model.onnx'} is damaged: its hash is not the one in bundle.json\n"
        "next: invoke export-onnx --experiment tiny\n"
    )
    assert not (folder / "kaggle").exists()
    with pytest.raises(Exception, match=r"has no pyproject\.toml: the wheel of ffdi cannot be built from it"):
        kaggle_bundle.build_wheel(tmp_path, tmp_path)

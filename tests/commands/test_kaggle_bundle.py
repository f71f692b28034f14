"""The bundle for Kaggle and Colab. Its notebooks run as they run there: elsewhere, from what it brings alone."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import timm
from packaging.requirements import Requirement
from safetensors.torch import save_file

from ffdi import __version__
from ffdi.commands import kaggle_bundle as command
from ffdi.commands.kaggle_bundle import ENVIRONMENTS
from ffdi.config.schema import DataConfig
from ffdi.core import machine
from ffdi.core.errors import DataError, DeviceError, ExperimentError
from ffdi.data.labels import layout
from ffdi.inference import onnxruntime, select
from ffdi.inference.backend import NO_DEVICE, Runtime
from ffdi.submission import kaggle_bundle
from ffdi.training.runtime import device
from tests.conftest import PROJECT, Invoke, run

WHEEL = f"ffdi-{__version__}-py3-none-any.whl"
HERE = kaggle_bundle.format_tag(platform.python_version())


def write_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A wheel with nothing in it."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def list_needs(python: str) -> dict[str, Requirement]:
    """What ffdi needs in an environment, by name."""
    environment = ENVIRONMENTS[python]
    listed = command.list_requirements(PROJECT, environment, onnxruntime.choose_extra(environment.packages["torch"]))
    return {one.name: one for one in map(Requirement, listed)}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheels of what a bundle fetches, in the lowest versions; one needs more packages."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, requirement in list_needs("3.12").items():
        (lowest,) = (one.version for one in requirement.specifier if one.operator in (">=", "=="))
        needs = ["numpy>=1", "later; python_version >= '3.13'", "never; extra == 'more'"] if name == "onnx" else []
        write_wheel(folder, name, lowest, *needs)
    for version in ("1.9", *(one.packages["numpy"] for one in ENVIRONMENTS.values()), "9.9"):
        write_wheel(folder, "numpy", version)
    write_wheel(folder, "later", "1.0")
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
    count = len(set(list_needs("3.12")) - set(ENVIRONMENTS["3.12"].packages))
    assert (
        "\nwheels for Python 3.12.13 (Kaggle), all but torch, torchvision, timm, numpy, pandas, "
        "opencv-python-headless, protobuf, scikit-learn, scipy, pillow, matplotlib\n"
        f"{count} wheels downloaded\n"
    ) in output
    assert re.search(rf"\nwheels for Python 3.13.15 \(Colab\), all but .+\n{count + 1} wheels downloaded\n", output)
    notebooks = "train.ipynb, infer.ipynb, colab-train.ipynb, colab-infer.ipynb"
    assert re.search(rf"\nwritten: {folder} \({notebooks}; \d+\.\d MiB\)\n", output)
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
        *("colab-train.ipynb", "colab-infer.ipynb"),
    }
    inside = zipfile.ZipFile(bundle / WHEEL).namelist()
    shipped = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "ffdi").rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == shipped
    assert {"ffdi/pages/report.html.j2", "ffdi/pages/style.css"} <= set(inside)


def list_wheels(folder: Path) -> set[str]:
    return {path.name.partition("-")[0].replace("_", "-") for path in folder.glob("*.whl")}


@pytest.mark.parametrize(("python", "tag", "more"), [("3.12", "cp312", set()), ("3.13", "cp313", {"later"})])
def test_its_wheels_replace_nothing_that_is_there(bundle: Path, python: str, tag: str, more: set[str]) -> None:
    needs, packages = list_needs(python), ENVIRONMENTS[python].packages
    folder = bundle / "wheels" / tag
    assert list_wheels(folder) == {name for name in needs if name not in packages} | more
    assert {"torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn"} <= set(packages)
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert {Requirement(line).name for line in lines} == set(needs)
    assert "onnxruntime-gpu" in needs
    assert needs["onnxruntime-gpu"].specifier.contains("1.26.0")
    assert not needs["onnxruntime-gpu"].specifier.contains("1.28.0")  # from there on it needs another driver
    assert not any(one.extras for one in needs.values())


@pytest.mark.parametrize("python", ENVIRONMENTS)
def test_the_packages_of_a_service_satisfy_ffdi(python: str) -> None:
    needs, packages = list_needs(python), ENVIRONMENTS[python].packages
    unfit = {
        name: version
        for name, version in packages.items()
        if name in needs and not needs[name].specifier.contains(version)
    }
    assert unfit == {}


def execute(notebook: Path, changed: dict[str, str], site: Path) -> subprocess.CompletedProcess[str]:
    """Runs a notebook cell by cell in a Python that has ffdi from `site` alone, with other folders than there."""
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if "outputs" in cell]
    for old, new in changed.items():
        assert any(old in cell for cell in cells)
        cells = [cell.replace(old, new) for cell in cells]
    site.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("FFDI_ROOT", "PYTHONPATH")}
    environment = {**kept, "PYTHONPATH": str(site), "PIP_TARGET": str(site), "PIP_UPGRADE": "1"}
    last = "import ffdi\nprint('ffdi of', ffdi.__file__)"
    kernel = f"scope = {{}}\nfor cell in {[*cells, last]!r}:\n    exec(compile(cell, 'cell', 'exec'), scope)"
    return subprocess.run(
        [sys.executable, "-u", "-c", kernel], cwd=site, env=environment, capture_output=True, text=True, check=False
    )


def executed(notebook: Path, changed: dict[str, str], site: Path) -> str:
    """The output of a notebook that runs to its end."""
    done = execute(notebook, changed, site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ffdi of {site}" in done.stdout
    return done.stdout


def copy_bundle(bundle: Path, target: Path) -> None:
    """Copies a bundle; the wheels for Python 3.12 become those of the Python that runs the tests."""
    shutil.copytree(bundle, target)
    if HERE != "cp312":
        shutil.rmtree(target / "wheels" / HERE, ignore_errors=True)
        (target / "wheels" / "cp312").rename(target / "wheels" / HERE)


def check_report(printed: str) -> None:
    """Checks what the first cell prints."""
    library = metadata.version("torch")
    assert "\nThis notebook has, and ffdi will use:\n" in printed
    assert f"\n  ffdi          {__version__}\n  Python        {platform.python_version()}\n  GPU           " in printed
    assert f"\n  torch         {library}" in printed
    assert re.search(r"\n  training uses .+; \d+ threads?, \d+ loader workers?\n", printed)
    assert "\n  ONNX Runtime  " in printed
    assert "CPUExecutionProvider" in printed
    assert re.search(r"\n  scoring uses  the (CPU, because ONNX Runtime cannot use a GPU: .+|GPU .+)\n", printed)
    assert re.search(r"installed: .*onnxruntime-gpu [\d.]+.* - all other packages stay as they were\n", printed)


def check_scores(found: Path, wanted: Path) -> None:
    here, there = (pd.read_csv(path, index_col="img_name").y_pred for path in (found, wanted))
    assert set(here.index) == set(there.index)
    # the notebook takes the fastest runtime, which may multiply in fewer bits
    assert (here[there.index] - there).abs().max() < 5e-3


def test_its_notebooks_run_on_kaggle_from_what_it_brings(bundle: Path, competition: Path, tmp_path: Path) -> None:
    given, work = tmp_path / "input", tmp_path / "working"
    copy_bundle(bundle, given / "my-bundle")
    for path in sorted((given / "my-bundle").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    images, lists = given / "datasets" / "owner" / "faces" / "deep", given / "competitions" / "deepfakes"
    shutil.copytree(competition / "trainset", images / "trainset")
    shutil.copytree(competition, lists, ignore=shutil.ignore_patterns("trainset"))
    changed = {"/kaggle/input": str(given), "/kaggle/working": str(work)}
    work.mkdir()
    printed = executed(given / "my-bundle" / "train.ipynb", changed, tmp_path / "site")
    check_report(printed)
    assert f"data: {images / 'trainset'}\n" in printed
    assert f"data: {lists / 'trainset_label.txt'}\n" in printed
    before = bundle.parent
    assert (work / "submission.csv").read_bytes() == (before / "submission.csv").read_bytes()
    assert (work / "exports" / "tiny" / "report.html").is_file()

    shutil.rmtree(work)
    work.mkdir()
    executed(given / "my-bundle" / "infer.ipynb", changed, tmp_path / "site")
    check_scores(work / "submission.csv", before / "onnx_scores.csv")


def test_its_notebooks_run_on_colab_with_data_in_drive(
    trained: Path, bundle: Path, competition: Path, tmp_path: Path
) -> None:
    content, site = tmp_path / "content", tmp_path / "site"
    drive = content / "drive" / "MyDrive" / "ffdi"
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "drive.py").write_text("def mount(place):\n    print('mounted:', place)\n")
    copy_bundle(bundle, drive / "tiny")
    (drive / "data").mkdir()
    shutil.make_archive(str(drive / "data" / "faces"), "zip", competition)
    results = drive / "tiny-results"
    shutil.copytree(trained / "experiments", results / "experiments")  # of an earlier session
    printed = executed(drive / "tiny" / "colab-train.ipynb", {"/content": str(content)}, site)
    assert f"mounted: {content / 'drive'}\n" in printed
    check_report(printed)
    assert "fold 0: finished before, kept\n" in printed
    assert printed.endswith(f"results: {results}\nffdi of {site / 'ffdi' / '__init__.py'}\n")
    assert (results / "submission.csv").read_bytes() == (bundle.parent / "submission.csv").read_bytes()
    assert (results / "exports" / "tiny" / "report.html").is_file()

    shutil.rmtree(content / "ffdi")
    executed(drive / "tiny" / "colab-infer.ipynb", {"/content": str(content)}, site)
    check_scores(results / "submission.csv", bundle.parent / "onnx_scores.csv")
    shutil.rmtree(drive / "data")
    done = execute(drive / "tiny" / "colab-infer.ipynb", {"/content": str(content)}, site)
    assert (done.returncode, done.stderr) == (
        1,
        f"DATA_FROM: there is no {drive / 'data'}. Upload it, or correct DATA_FROM in the first cell.\n",
    )


def test_a_notebook_whose_time_is_over_can_be_run_again(tmp_path: Path) -> None:
    calls = []

    def run(*words: object) -> bool:
        calls.append(words)
        return len(calls) == 3

    scope = {"run": run, "DATA": "data", "WORK": tmp_path / "work", "RESULTS": tmp_path / "results"}
    scope["copy_folder"] = lambda *paths: calls.append(paths)
    kaggle, colab = (
        json.loads(kaggle_bundle.build_training_notebook(service, "both", ["one", "two"], ["*"]))["cells"]
        for service in ("Kaggle", "Colab")
    )
    exec("".join(colab[3]["source"]), scope)
    train = ("invoke", "train-folds", "--experiment", "one", "--experiment", "two", "--data", "data", "--max-time")
    copied = (tmp_path / "work" / "experiments", tmp_path / "results" / "experiments")
    assert calls == [(*train, "1h"), copied, (*train, "1h"), copied]
    calls.clear()
    for cell in kaggle[3:]:
        exec("".join(cell["source"]), scope)
    assert calls == [(*train, "11h")]


def test_a_notebook_prints_what_its_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "speak.py").write_text(
        "import sys\nprint('\u2501' * 3000)\nprint('fault', file=sys.stderr)\nsys.exit(int(sys.argv[1]))"
    )
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    scope = {"subprocess": subprocess, "sys": sys, "WHEEL": tmp_path / WHEEL}
    exec(kaggle_bundle.TOOLS, scope)
    for code, finished in ((0, True), (75, False)):
        with redirect_stdout(StringIO()) as printed:  # a file descriptor is not redirected
            assert scope["run"]("speak", str(code)) is finished
        assert printed.getvalue() == "\u2501" * 3000 + "\nfault\n"
    with pytest.raises(SystemExit, match=r"^speak 1 did not succeed: the lines above say why\.$"):
        scope["run"]("speak", "1")


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (
            "*.whl",
            "No input has a file ffdi-*.whl: attach the data set that `invoke kaggle-bundle` made (Add Input).\n",
        ),
        (
            f"wheels/{HERE}",
            f"this notebook has Python {platform.python_version()}, and the bundle is for Python 3.9\n"
            "next: choose an environment with such a Python in the notebook's settings, or make the bundle again\n",
        ),
        (
            f"wheels/{HERE}/onnxruntime_gpu*.whl",
            "ffdi needs packages that this notebook lacks, and that the bundle does not bring\n"
            "  onnxruntime-gpu{needs}: here is {here}\n"
            "next: make the bundle with invoke kaggle-bundle --wheels; or, with a network, install them by %pip "
            "install\n",
        ),
    ],
    ids=["no bundle", "other Python", "no wheel"],
)
def test_what_keeps_a_notebook_from_running_is_one_message(
    bundle: Path, tmp_path: Path, lost: str, expected: str
) -> None:
    needs, here = list_needs("3.12")["onnxruntime-gpu"].specifier, machine.find_version("onnxruntime-gpu")
    given = tmp_path / "input" / "my-bundle"
    copy_bundle(bundle, given)
    for path in list(given.glob(lost)):
        path.unlink() if path.is_file() else path.rename(path.with_name("cp39"))
    for other in {"cp312", "cp313"} - {HERE}:
        shutil.rmtree(given / "wheels" / other, ignore_errors=True)
    done = execute(bundle / "train.ipynb", {"/kaggle": str(tmp_path)}, tmp_path / "site")
    assert (done.returncode, done.stderr) == (1, expected.format(needs=needs, here=here or "none"))


def test_only_what_is_missing_or_unfit_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, site = tmp_path / "wheels" / HERE, tmp_path / "site"
    folder.mkdir(parents=True)
    for name in ("numpy", "never", "spirit"):
        write_wheel(folder, name, "99.0")
    write_wheel(folder, "ghost", "1.0", "spirit>2; python_version > '3'", "numpy>=1", "never; extra == 'more'")
    write_wheel(folder, "pluggy", "0.9", "numpy")
    (folder / "requirements.txt").write_text("numpy>=1\nghost<2\npluggy<1\n")
    monkeypatch.setenv("PIP_TARGET", str(site))
    kaggle_bundle.install_wheels(tmp_path / "wheels")
    assert capsys.readouterr().out == (
        f"installed: ghost 1.0, pluggy 0.9 instead of {metadata.version('pluggy')}, spirit 99.0 "
        "- all other packages stay as they were\n"
    )
    assert {path.name for path in site.iterdir()} == {
        f"{name}.dist-info" for name in ("ghost-1.0", "pluggy-0.9", "spirit-99.0")
    }
    (folder / "requirements.txt").write_text("numpy>=1\n")
    kaggle_bundle.install_wheels(tmp_path / "wheels")
    assert capsys.readouterr().out == "installed: nothing - all other packages stay as they were\n"


def write_nvidia_smi(folder: Path, line: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)


def test_a_notebook_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(faults: dict[str, str]) -> dict[str, str]:
        fakes = {
            name: Runtime(True, True, True, lambda _, fault=fault: fault, lambda *_: None)
            for name, fault in faults.items()
        }
        monkeypatch.setattr(select, "RUNTIMES", {**fakes, "cpu": select.RUNTIMES["cpu"]})
        command.describe_notebook()
        head, *lines = capsys.readouterr().out.splitlines()
        assert head == "This notebook has, and ffdi will use:"
        return {line[2:16].strip(): line[16:] for line in lines}

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(device, "choose_device", lambda *_: SimpleNamespace(why="cuda:0 (Tesla T4)"))
    monkeypatch.setattr(device.torch, "__version__", "2.10.0+cu128")
    monkeypatch.setattr(device.torch.version, "cuda", "12.8")
    monkeypatch.setattr(onnxruntime.onnxruntime, "__version__", "1.26.0")
    monkeypatch.setattr(onnxruntime.onnxruntime, "cuda_version", "12.8", raising=False)
    monkeypatch.setattr(onnxruntime.onnxruntime, "get_available_providers", lambda: ["FastProvider", "CPUProvider"])
    write_nvidia_smi(tmp_path, "echo 'Tesla T4, 15360 MiB, 580.82.07'; echo 'Tesla T4, 15360 MiB, 580.82.07'")
    assert report({"cuda": "", "cuda-tf32": ""}) == {
        "ffdi": __version__,
        "Python": platform.python_version(),
        "GPU": "Tesla T4, 15360 MiB, driver 580.82.07; Tesla T4, 15360 MiB, driver 580.82.07",
        "torch": "2.10.0+cu128, for CUDA 12.8",
        "training uses": "cuda:0 (Tesla T4)",
        "ONNX Runtime": "1.26.0, for CUDA 12.8, with FastProvider, CPUProvider",
        "scoring uses": "the GPU (cuda, cuda-tf32), if its scores are those of the export and it is faster than "
        "the CPU",
    }

    def refuse(*_: object) -> None:
        raise DeviceError("this machine has 1 GPU (Tesla P100) that torch cannot use", hint="pass --device cpu")

    monkeypatch.setattr(device, "choose_device", refuse)
    monkeypatch.setattr(onnxruntime.onnxruntime, "cuda_version", "")
    write_nvidia_smi(tmp_path, "echo 'no driver'; exit 9")
    found = report({"cuda": "libcublasLt.so.12: cannot open shared object file", "cuda-tf32": NO_DEVICE})
    assert found["GPU"] == "nvidia-smi fails: no driver"
    assert found["training uses"] == (
        "nothing: this machine has 1 GPU (Tesla P100) that torch cannot use (next: pass --device cpu)"
    )
    assert found["ONNX Runtime"] == "1.26.0, for CPUs, with FastProvider, CPUProvider"
    assert found["scoring uses"] == (
        "the CPU, because ONNX Runtime cannot use a GPU: libcublasLt.so.12: cannot open shared object file; "
        "there is no device"
    )
    (tmp_path / "nvidia-smi").unlink()
    monkeypatch.setitem(sys.modules, "ffdi.training.runtime", None)
    found = report({"cuda": NO_DEVICE})
    assert found["GPU"] == "none that nvidia-smi shows"
    assert "training uses" not in found
    assert found["torch"].startswith("not here (")


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
    answer = invoke("kaggle-bundle", "--experiment", "tiny", "--wheels", "--python", "3.13")
    assert answer.code == 1
    assert answer.err.startswith(
        "error: wheels for Python 3.13.15 (Colab) cannot be downloaded: pip install failed (exit code 1)\n  ERROR: "
    )
    assert "No matching distribution found for albumentations==2.0.8\n" in answer.err
    assert answer.err.endswith("next: correct that, and run the same command again; nothing was written\n")
    answer = invoke("kaggle-bundle", "--experiment", "tiny", "--python", "3.12", "--python", "3.9")
    assert (answer.code, answer.err) == (
        1,
        "error: --python 3.9: no notebook has this Python; known: 3.12 (Kaggle), 3.13 (Colab)\n"
        "next: pass --python 3.12\n",
    )
    answer = invoke("kaggle-bundle", "--experiment", "tiny", "--name", "other")
    assert (answer.code, answer.err) == (
        1,
        f"error: there is no export {copy / 'exports' / 'other'}\n"
        "next: invoke export-onnx --experiment tiny --name other; a bundle that only trains needs no --name\n",
    )
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


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement onnx (from versions: none)\n",
            "wheels are missing: there is no connection to a package index\n"
            "  ERROR: Could not find a version that satisfies the requirement onnx (from versions: none)\n"
            "next: connect to a network, or set PIP_INDEX_URL to the address of a mirror, and run the same command "
            "again; nothing was written",
        ),
        (
            "/usr/bin/python: No module named pip\n",
            "wheels are missing: this environment has no pip\nnext: python -m ensurepip",
        ),
        (
            "one\n\ntwo\n",
            "wheels are missing: pip download failed (exit code 2)\n  one\n  two\n"
            "next: correct that, and run the same command again; nothing was written",
        ),
    ],
    ids=["no network", "no pip", "other"],
)
def test_a_fault_of_pip_is_explained(output: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 2, "", output)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ExperimentError) as fault:
        kaggle_bundle.run_pip("wheels are missing", "download", "onnx")
    assert str(fault.value) == expected

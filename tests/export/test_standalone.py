"""predict.py of an export: one script that needs only numpy, OpenCV and ONNX Runtime."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ffdi.data.images.resizing import RESIZES, ResizePolicy
from ffdi.export import onnx, standalone
from tests.export.test_onnx import exported, single

NO_IMAGE = "no image, or of another format than JPEG, PNG, BMP, TIFF and WebP"
ALONE = ("numpy", "opencv-python-headless", "onnxruntime-gpu", "onnxruntime", "flatbuffers", "packaging", "protobuf")
"""What is on the stranger's machine: the three, and what ONNX Runtime brings."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with nothing else in it."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ALONE:
        try:
            files = importlib.metadata.distribution(name).files or []
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two ONNX Runtimes is there
        for top in {file.parts[0] for file in files if ".." not in file.parts}:
            source = Path(np.__file__).parent.parent / top
            if source.is_dir() and not (folder / top).exists():
                shutil.copytree(source, folder / top, copy_function=_linked)
    return folder


def _linked(source: str, target: str) -> None:
    """A hard link where the disk allows it; OpenCV looks behind symbolic ones."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export's folder with its graph and predict.py, and two images."""
    onnx.save_graph(exported(), tmp_path / "model.onnx", {"framing": "squash"})
    shutil.copyfile(standalone.__file__, tmp_path / "predict.py")
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "large.jpg"), rng.integers(0, 256, (70, 50, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), rng.integers(0, 256, (20, 40, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "strip.png"), rng.integers(0, 256, (7, 301, 3), np.uint8))
    return tmp_path


def run(export: Path, machine: Path, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Calls predict.py on the stranger's machine."""
    start = f"import runpy, sys; sys.path.insert(0, {str(machine)!r}); sys.argv = ['predict.py', *sys.argv[1:]]; "
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{start}runpy.run_path('predict.py', run_name='__main__')", *words],
        cwd=export,
        input=lines,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("resize", RESIZES)
def test_the_script_gives_the_scores_of_the_graph(resize: str, export: Path, machine: Path) -> None:
    onnx.save_graph(exported(), export / "model.onnx", {"framing": resize})
    done = run(export, machine, "large.jpg", "small.png", "strip.png")
    assert (done.returncode, done.stderr) == (0, "")
    batch = np.stack([ResizePolicy(32, resize).load(export / name) for name in ("large.jpg", "small.png", "strip.png")])
    expected = single().score(batch)
    names, y_pred = zip(*(line.split(",") for line in done.stdout.splitlines()), strict=True)
    assert names == ("large.jpg", "small.png", "strip.png")
    assert np.abs(np.array(y_pred, np.float32) - expected).max() < 1e-5


def test_bad_images_are_named_and_the_others_scored(export: Path, machine: Path) -> None:
    (export / "empty.jpg").write_bytes(b"")
    (export / "text.jpg").write_bytes(b"no image")
    Image.new("RGB", (9, 9)).save(export / "moving.gif")
    Image.new("F", (9, 9)).save(export / "floats.tiff")
    done = run(export, machine, "empty.jpg", "text.jpg", "nowhere.jpg", "moving.gif", "floats.tiff", "small.png")
    assert done.returncode == 1
    assert done.stdout.startswith("small.png,0.")
    assert done.stderr.splitlines() == [
        f"empty.jpg: {NO_IMAGE}",
        f"text.jpg: {NO_IMAGE}",
        "nowhere.jpg: [Errno 2] No such file or directory: 'nowhere.jpg'",
        f"moving.gif: {NO_IMAGE}",
        "floats.tiff: truncated, damaged, or not of 8 or 16 bits",
    ]


def test_without_an_image_the_script_fails(export: Path, machine: Path) -> None:
    done = run(export, machine)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no image was given\n")


def test_the_script_prints_its_usage(export: Path, machine: Path) -> None:
    done = run(export, machine, "--help")
    assert done.returncode == 0
    assert "python predict.py IMAGE [IMAGE ...]" in done.stdout


def test_folders_and_lines_of_standard_input_are_read(export: Path, machine: Path) -> None:
    (export / "sub").mkdir()
    shutil.copyfile(export / "small.png", export / "sub" / "two words, one.png")
    (export / "sub" / "notes.txt").write_text("BM")
    done = run(export, machine, lines='large.jpg\n\n"sub/two words, one.png"\r\nsub\n')
    assert (done.returncode, done.stderr) == (0, "sub: files that are no images: 1 of 2\n")
    names = [name for name, _ in csv.reader(io.StringIO(done.stdout))]
    assert names == ["large.jpg", "sub/two words, one.png", "sub/two words, one.png"]


def test_a_file_of_a_folder_that_cannot_be_read_is_named(export: Path, machine: Path) -> None:
    (export / "sub").mkdir()
    (export / "sub" / "gone.jpg").symlink_to("nowhere.jpg")
    done = run(export, machine, "sub", "small.png")
    assert (done.returncode, done.stdout[:12]) == (1, "small.png,0.")
    assert done.stderr == "sub/gone.jpg: [Errno 2] No such file or directory: 'sub/gone.jpg'\n"


def test_the_script_needs_only_three_packages(machine: Path) -> None:
    start = f"import sys; sys.path.insert(0, {str(machine)!r}); "
    for name in ("ffdi", "torch", "PIL", "pandas", "onnx"):
        done = subprocess.run([sys.executable, "-I", "-S", "-c", f"{start}import {name}"], capture_output=True)
        assert done.returncode == 1, name

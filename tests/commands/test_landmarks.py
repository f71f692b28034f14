"""invoke landmarks, on images of discs and with a network that finds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.config.schema import DataConfig
from ffdi.core import limited_process, manifests
from ffdi.data.labels import layout
from ffdi.faces import finder
from ffdi.faces.finder import Found
from tests import face_networks
from tests.conftest import TINY, Invoke
from tests.face_networks import draw_disc

Snapshot = Callable[[Path], dict[str, bytes]]
NOT_OWN = "exists, and `invoke landmarks` did not write it, or it was changed since"
REPLACE = "pass --output with another file, or --restart to replace it"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a face mesh and a detector that finds faces in the left half."""
    folder = tmp_path_factory.mktemp("networks")
    face_networks.write_mesh(folder / "mesh.onnx")
    face_networks.write_detector(folder / "detector.onnx", np.array([[0.2, 0.3], [0.5, 0.6]]))
    return folder


@pytest.fixture
def unvetted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens networks without a child process, which takes a second; tests/faces/test_networks.py has it."""
    monkeypatch.setattr(limited_process, "run_limited", lambda *_: "")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images, each with a disc in another place; 4.png has none, and 5.png is a strip."""
    root = tmp_path / "data"
    (root / "trainset").mkdir(parents=True)
    for index in range(10):
        image = draw_disc((80, 100), (42 + 2 * index, 40), 20)
        image = image // 8 if index == 4 else image[38:48] if index == 5 else image
        cv2.imwrite(str(root / "trainset" / f"{index}.png"), image)
    rows = "".join(f"{index}.png,{index % 2}\n" for index in range(10))
    (root / "trainset_label.txt").write_text("img_name,target\n" + rows)
    return root


def words(data: Path, networks: Path) -> list[str]:
    return ["landmarks", "--experiment", "tiny", "--data", str(data), "--model", str(networks / "mesh.onnx")]


@pytest.mark.usefixtures("unvetted")
def test_the_file_is_what_a_training_reads(workspace: Path, data: Path, networks: Path, invoke: Invoke) -> None:
    answer = invoke(*words(data, networks))
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[:2] == [
        f"landmarks: 10 training images (5 real, 5 fake) in {data}/trainset",
        "networks: mesh.onnx, no detector: each image is taken for the crop of a face; 1 thread",
    ]
    assert lines[2].startswith("looked at: 10 images in ")
    assert lines[3:] == [
        "found: 8 faces, in 4 of 5 real and 4 of 5 fake images",
        "no face: 4.png (presence 0.00), 5.png (a strip); pseudo-fakes of real ones among these get ovals",
        f"written: {data}/landmarks.csv, {data}/landmarks.json (10 rows)",
        "next: invoke train-folds --experiment tiny --set pseudo_fakes.fraction=0.25 "
        f"""--set 'pseudo_fakes.methods=["self_blend"]' --data {data}""",
    ]
    found = layout.find_dataset(data, DataConfig()).split("train").landmarks
    assert found is not None
    assert found.shape == (10, 468, 2)
    assert np.isnan(found).all(axis=(1, 2)).tolist() == [index in (4, 5) for index in range(10)]
    places = found[[0, 9]] * (100, 80)
    assert (places.min(axis=1) + places.max(axis=1)) / 2 == pytest.approx(np.array([[42, 40], [60, 40]]), abs=0.3)
    record = manifests.read_manifest(data / "landmarks.json")
    assert (record["rows"], record["faces"], record["detector"]) == (10, 8, None)
    assert record["mesh"] == manifests.hash_file(networks / "mesh.onnx")
    again = (data / "landmarks.csv").read_bytes()
    assert invoke(*words(data, networks)).code == 0  # it replaces its own file
    assert (data / "landmarks.csv").read_bytes() == again
    assert workspace.is_dir()


@pytest.mark.usefixtures("unvetted")
def test_with_self_blending_the_next_step_is_a_training(
    workspace: Path, data: Path, networks: Path, invoke: Invoke
) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(TINY + "[pseudo_fakes]\nfraction = 0.5\n")
    answer = invoke(*words(data, networks), "--presence", "0")
    assert answer.out.splitlines()[-1] == f"next: invoke train-folds --experiment tiny --data {data}"
    assert "no face: 4.png (presence 0.00), 5.png (a strip); " in answer.out  # all points of 4.png are in one place


@pytest.mark.usefixtures("unvetted", "workspace")
def test_a_file_of_someone_else_is_kept(data: Path, networks: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    path = data / "landmarks.csv"
    path.write_text("img_name,x0,y0,x1,y1,x2,y2\n0.png,0,0,1,0,1,1\n")
    before = snapshot(data)
    answer = invoke(*words(data, networks))
    assert (answer.code, answer.err) == (1, f"error: {path} {NOT_OWN}\nnext: {REPLACE}\n")
    assert snapshot(data) == before
    assert invoke(*words(data, networks), "--restart").code == 0
    path.write_text(path.read_text().replace("0.png", "0.png ", 1))  # changed since
    before = snapshot(data)
    answer = invoke(*words(data, networks))
    assert (answer.code, answer.err) == (1, f"error: {path} {NOT_OWN}\nnext: {REPLACE}\n")
    path.unlink()
    (data / "landmarks.json").write_text("{}")
    answer = invoke(*words(data, networks))
    assert (answer.code, answer.err) == (1, f"error: {data}/landmarks.json {NOT_OWN}\nnext: {REPLACE}\n")


@pytest.mark.usefixtures("unvetted")
def test_another_place_is_named_in_the_config(workspace: Path, data: Path, networks: Path, invoke: Invoke) -> None:
    output = workspace / "faces" / "points.csv"
    answer = invoke(*words(data, networks), "--output", str(output))
    assert (answer.code, answer.err) == (0, "")
    assert f"""--set 'data.landmarks_file="{output}"' --set pseudo_fakes.fraction=0.25""" in answer.out
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(f"{TINY}[data]\nlandmarks_file = {json.dumps(str(output))}\n")
    content = output.read_bytes()
    output.unlink()
    answer = invoke(*words(data, networks))  # the key names a file that this command has to write first
    assert (answer.code, answer.err) == (0, "")
    assert "data.landmarks_file" not in answer.out
    assert output.read_bytes() == content
    assert not (data / "landmarks.csv").exists()


@pytest.mark.usefixtures("unvetted", "workspace")
def test_images_that_cannot_be_read_are_listed(data: Path, networks: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    cut, empty = data / "trainset" / "3.png", data / "trainset" / "8.png"
    cut.write_bytes(cut.read_bytes()[:60])
    empty.write_bytes(b"")
    before = snapshot(data)
    answer = invoke(*words(data, networks))
    assert (answer.code, answer.err) == (
        1,
        "error: 2 of 10 images cannot be used; nothing was written\n"
        f"  {cut} is truncated or damaged: 60 bytes cannot be decoded\n"
        f"  {empty} is empty\n"
        f"next: replace these files or take them out of {data}/trainset_label.txt, and run the same command again\n",
    )
    assert snapshot(data) == before


@pytest.mark.usefixtures("unvetted", "workspace")
def test_ctrl_c_leaves_nothing_half_written(
    data: Path, networks: Path, invoke: Invoke, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = finder.find_faces

    def interrupted(*args: object) -> Iterator[Found]:
        faces = find(*args)  # type: ignore[arg-type]
        yield from (next(faces) for _ in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(finder, "find_faces", interrupted)
    before = snapshot(data)
    answer = invoke(*words(data, networks))
    assert answer.code == 130
    assert answer.err.startswith("stopped: ")
    assert snapshot(data) == before
    assert sorted(path.name for path in data.iterdir()) == ["trainset", "trainset_label.txt"]


@pytest.mark.usefixtures("unvetted", "workspace")
def test_few_faces_suggest_a_detector(data: Path, networks: Path, invoke: Invoke) -> None:
    for index in range(9):
        cv2.imwrite(str(data / "trainset" / f"{index}.png"), np.full((40 + index, 40, 3), 20, np.uint8))
    answer = invoke(*words(data, networks), "--quiet")
    assert answer.code == 0
    assert answer.err == "warning: few images have a face: if they are not crops of faces, pass --detector\n"
    answer = invoke(*words(data, networks), "--detector", str(networks / "detector.onnx"), "--json")
    output = json.loads(answer.out)
    assert (answer.code, output["warnings"]) == (0, [])
    assert output["lines"][1] == "networks: mesh.onnx, first crop by detector.onnx; 1 thread"
    assert output["lines"][4].startswith("no face: 0.png (presence 0.00), 1.png ")
    assert ", and 4 more; " in output["lines"][4]


@pytest.mark.usefixtures("workspace")
def test_a_file_that_is_no_mesh_writes_nothing(data: Path, networks: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    before = snapshot(data)
    answer = invoke(*words(data, networks)[:-1], str(networks / "detector.onnx"))
    assert answer.code == 1
    assert answer.err.startswith(
        f"error: --model {networks}/detector.onnx is not a face mesh that can be used: it takes "
    )
    assert snapshot(data) == before


FLAGS = {
    "no model": (
        [],
        "no face mesh was given\n"
        "next: pass --model face_landmark.tflite, from the npm package @mediapipe/face_mesh; docs/data.md#landmarks "
        "has the commands that get it",
    ),
    "a presence that is none": (
        ["--presence", "2"],
        "--presence 2: not a number from 0 to 1\nnext: pass --presence 0.5, or leave it out",
    ),
    "a file that is no CSV": (
        ["--output", "points.json"],
        "points.json: landmarks are a CSV\nnext: pass --output landmarks.csv",
    ),
    "a formula": (
        ["--output", "=cmd|x.csv"],
        "--output =cmd|x.csv: its name is a formula to a spreadsheet\nnext: pass --output landmarks.csv",
    ),
    "a model that is not there": (
        ["--model", "mesh.tflite"],
        "--model mesh.tflite is not a file\n"
        "next: pass --model face_landmark.tflite; docs/data.md says where it comes from",
    ),
}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("case", FLAGS)
def test_a_bad_flag_is_explained(case: str, data: Path, invoke: Invoke, snapshot: Snapshot) -> None:
    flags, expected = FLAGS[case]
    before = snapshot(data)
    answer = invoke("landmarks", "--experiment", "tiny", "--data", str(data), *flags)
    assert (answer.code, answer.err) == (1, f"error: {expected}\n")
    assert snapshot(data) == before


def test_a_data_folder_that_cannot_be_written_needs_an_output(workspace: Path, data: Path, invoke: Invoke) -> None:
    config = workspace / "experiments" / "tiny" / "config.toml"
    config.write_text(f'{TINY}[data]\nlandmarks_file = "trainset_label.txt/points.csv"\n')
    answer = invoke("landmarks", "--experiment", "tiny", "--data", str(data))
    assert (answer.code, answer.err) == (
        1,
        f"error: {data}/trainset_label.txt/points.csv cannot be written: File exists\n"
        f'next: pass --output landmarks.csv, and set data.landmarks_file = "{Path.cwd()}/landmarks.csv" in config.toml'
        ": a path from the data folder, or an absolute one\n",
    )

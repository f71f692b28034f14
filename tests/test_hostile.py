"""Hostile files are refused with a message; nothing in them runs, and nothing outside the roots is opened."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper

from ffdi.core import files as publish
from ffdi.core import manifests
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.data.images import cache as caches
from ffdi.experiments.workspace import Workspace
from ffdi.inference import onnx_safety
from ffdi.models import weights
from tests import planting
from tests.conftest import Invoke, reseal

EVENTS: list[str] = []
"""What was unpickled, run or opened while a test watched."""


def _listen(event: str, details: tuple[object, ...]) -> None:
    if event in ("pickle.find_class", "os.system"):
        EVENTS.append(event)
    elif event == "open" and isinstance(details[0], str) and "secret" in details[0]:
        EVENTS.append(f"open {details[0]}")


sys.addaudithook(_listen)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file that must never be opened; at the end nothing must have run."""
    path = tmp_path / "secret.bin"
    path.write_bytes(bytes(4096))
    EVENTS.clear()
    yield path
    assert EVENTS == []
    assert not (tmp_path / "attacked").exists()


class Attack:
    """Makes a file where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.folder / "attacked",)


# --- weights ---------------------------------------------------------------------------------------------------------


def saved(content: object, **options: bool) -> bytes:
    """As torch saves."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def header(content: bytes, size: int | None = None) -> bytes:
    """A .safetensors file with this header and its declared size."""
    return struct.pack("<Q", len(content) if size is None else size) + content + bytes(64)


def bomb() -> bytes:
    """A .pth whose one tensor of 512 MiB is packed into half a MiB."""
    small = io.BytesIO(saved({"weight": torch.zeros(4)}))
    file = io.BytesIO()
    with zipfile.ZipFile(small) as given, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in given.namelist():
            if "/data/" in name:
                with packed.open(name, "w", force_zip64=True) as entry:
                    for _ in range(512):
                        entry.write(bytes(2**20))
            else:
                packed.writestr(name, given.read(name))
    return file.getvalue()


def tensor(dtype: str = "F32", shape: list[int] | None = None, ends: tuple[int, int] = (0, 16)) -> bytes:
    """A header of one tensor."""
    return json.dumps({"weight": {"dtype": dtype, "shape": shape or [4], "data_offsets": ends}}).encode()


WEIGHTS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "a pickle in torch's format": ("w.pth", lambda folder: saved({"weight": Attack(folder)})),
    "torch's old format": (
        "w.pt",
        lambda folder: saved({"weight": Attack(folder)}, _use_new_zipfile_serialization=False),
    ),
    "a bare pickle": ("w.pth", lambda folder: pickle.dumps(Attack(folder))),
    "a bare pickle of protocol 0": ("w.bin", lambda folder: pickle.dumps(Attack(folder), 0)),
    "a pickle called .safetensors": ("w.safetensors", lambda folder: pickle.dumps(Attack(folder))),
    "a zip of a pickle called .safetensors": ("w.safetensors", lambda folder: saved(Attack(folder))),
    "a pickle called .ckpt": ("w.ckpt", lambda folder: saved({"state_dict": Attack(folder)})),
    "a whole module": ("w.pth", lambda _: saved(torch.nn.Linear(2, 2))),
    "a bomb": ("w.pth", lambda _: bomb()),
    "no zip": ("w.pth", lambda _: b"PK\x03\x04" + bytes(200)),
    "nothing": ("w.pth", lambda _: b""),
    "words alone": ("w.pth", lambda _: saved({"password": "a secret"})),
    "a header of words alone": ("w.safetensors", lambda _: header(b'{"__metadata__":{"password":"a secret"}}')[:-64]),
    "a header as long as the world": ("w.safetensors", lambda _: header(b"{}", 2**62)),
    "a header that is too long": ("w.safetensors", lambda _: header(b" " * 1000, 10**9)),
    "a header of brackets": ("w.safetensors", lambda _: header(b"[" * 100_000)),
    "a tensor behind the end": ("w.safetensors", lambda _: header(tensor(ends=(0, 10**12), shape=[10**12 // 4]))),
    "a tensor that ends before its start": ("w.safetensors", lambda _: header(tensor(ends=(16, 0)))),
    "an unknown type": ("w.safetensors", lambda _: header(tensor("Q99"))),
    "a shape that overflows": ("w.safetensors", lambda _: header(tensor(shape=[2**62, 2**62]))),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_hostile_weights_files_are_refused(what: str, secret: Path) -> None:
    name, content = WEIGHTS[what]
    path = secret.parent / name
    path.write_bytes(content(secret.parent))
    EVENTS.clear()
    with pytest.raises(ConfigError) as caught:
        weights.load_weights("test_resnet", path, {"num_classes": 1})
    assert caught.value.what.startswith((f"{path} cannot be read as weights: ", f"{path} does not hold weights of "))


@pytest.mark.parametrize("command", ["kaggle-bundle", "train-folds", "find-lr", "sweep", "score"])
def test_no_command_copies_or_hashes_a_file_that_has_no_weights(
    command: str, copy: Path, tmp_path: Path, competition: Path, invoke: Invoke
) -> None:
    key = tmp_path / ("id_rsa" if command == "kaggle-bundle" else "key.safetensors")
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n")
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace("pretrained = false", f'weights_file = "{key}"'))
    flags = {
        "kaggle-bundle": [],
        "sweep": ["--data", str(competition), "--set", "train.lr=1e-3,3e-3"],
        "score": ["--shift"],
    }
    answer = invoke(command, "--experiment", "tiny", *flags.get(command, ["--data", str(competition)]))
    assert answer.code == 1
    if command == "score":  # which first checks the identity of the folds
        assert "error: experiment tiny was started with another config or other images" in answer.err
    else:
        assert answer.err.startswith(f"error: {key} cannot be read as weights: ")
        assert answer.err.endswith("a .safetensors file or a .pth that holds tensors only\n")
    content, digest = key.read_bytes(), manifests.hash_file(key).encode()
    written = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert [path for path, bytes_ in written.items() if content in bytes_ or digest in bytes_] == []


# --- links -----------------------------------------------------------------------------------------------------------

OF = ("--experiment", "tiny")
COMMANDS = {
    "doctor": ("doctor", *OF, "--data", "{data}"),
    "cache": ("cache", *OF, "--data", "{data}"),
    "train-folds": ("train-folds", *OF, "--data", "{data}"),
    "train-folds --restart": ("train-folds", *OF, "--data", "{data}", "--restart"),
    "score": ("score", *OF),
    "ensemble-submit": ("ensemble-submit", *OF),
    "export-onnx": ("export-onnx", *OF),
    "predict-onnx": ("predict-onnx", *OF, "--device", "cpu"),
    "predict-onnx --output": ("predict-onnx", *OF, "--device", "cpu", "--output", "{root}/out/scores.csv"),
    "serve": ("serve", *OF, "--device", "cpu", "--port", "0"),
    "submit": ("submit", *OF, "--competition", "faces"),
    "report": ("report", *OF),
    "kaggle-bundle": ("kaggle-bundle", *OF),
    "leaderboard": ("leaderboard",),
    "verify": ("verify",),
}
UNWRITTEN = {
    "data/cache": True,
    "data/cache/{cache}/.lock": False,
    "data/cache/{cache}/index": False,
    "data/cache/{cache}/pack": False,
    "data/findings.sqlite-journal": False,
    "experiments/leaderboard.csv": False,
    "experiments/leaderboard.md": False,
    "experiments/tiny/.doctor.json.{pid}.tmp": False,
    "experiments/tiny/.lock.pid": False,
    "experiments/tiny/fold_0/checkpoint-000000001.json": False,
    "exports/tiny/.kaggle.{pid}.tmp": True,
    "exports/tiny/.lock.pid": False,
    "exports/tiny/.model.onnx.1.tmp/old": True,
    "exports/tiny/kaggle": True,
    "exports/tiny/kaggle/dataset-metadata.json": False,
    "exports/tiny/onnx_scores.csv.parts": True,
    "exports/tiny/report.html": False,
    "exports/tiny/submissions.json": False,
}
"""Paths that commands would write, and that `trained` does not have; True for a folder."""
OUTPUT = {
    "out/.scores.csv.1.tmp": True,
    "out/.scores.csv.1.tmp/old": True,
    "out/.scores.csv.{pid}.tmp": True,
    "out/scores.csv": False,
    "out/scores.csv.parts": True,
    "out/scores.csv.parts/.lock.pid": False,
    "out/scores.csv.parts/runtime": False,
    "out/scores.json": False,
}
"""The same of an --output."""
NEAR = {"doctor": "", "cache": "", "leaderboard": "", "train-folds": "experiments/tiny/", "score": "experiments/tiny/"}
"""A part of the paths of each command."""
EVERY = 16
"""Each command gets every EVERY-th path; `benchmarks/faults.py links` gives it all paths."""


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_follows_a_link_to_foreign_files(
    command: str, trained: Path, competition: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    planting.stand_in(tmp_path, monkeypatch.setattr)
    packed = Workspace(tmp_path, tmp_path).get_cache_folder(competition, caches.get_folder_name(None))
    cache = f"{packed.parent.name}/{packed.name}"
    there = {path: path.is_dir() for top in planting.ROOTS for path in (trained / top).rglob("*")}
    paths = {path.relative_to(trained).as_posix(): folder for path, folder in there.items()}
    paths |= {path.replace("{cache}", cache): folder for path, folder in UNWRITTEN.items()}
    near = NEAR.get(
        command.partition(" ")[0], "/tiny/"
    )  # links at other paths are harmless, and such runs take seconds
    some = sorted((path, folder) for path, folder in paths.items() if near in path)[
        list(COMMANDS).index(command) :: EVERY
    ]
    for number, (path, folder) in enumerate([*some, *(OUTPUT.items() if "--output" in command else ())]):
        root = tmp_path / f"root{number}"
        foreign = planting.foreign_of(root)
        shutil.copytree(trained, root)
        for place in (root / "out", foreign):
            place.mkdir()
        planting.Plant(path, ("like", "nowhere")[number % 2], folder).put(root)
        monkeypatch.setenv("FFDI_ROOT", str(root))
        answer = invoke(*(word.format(root=root, data=competition) for word in COMMANDS[command]))
        assert planting.changes(foreign) == [], path
        assert answer.code in (0, 1), path
        assert answer.code == 0 or "\nnext: " in answer.err, (path, answer.err)


@pytest.fixture
def linked(copy: Path, tmp_path: Path) -> Path:
    """A workspace whose experiment and export lie elsewhere, with links to them."""
    for top in ("experiments", "exports"):
        (copy / top / "tiny").rename(tmp_path / f"{top}-tiny")
        (copy / top / "tiny").symlink_to(tmp_path / f"{top}-tiny")
    return copy


def test_a_linked_experiment_is_refused_by_name_and_accepted_by_path(
    linked: Path, tmp_path: Path, invoke: Invoke
) -> None:
    place, target = linked / "experiments" / "tiny", tmp_path / "experiments-tiny"
    answer = invoke("score", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        f"error: {place} is a link to {target}, and ffdi follows no links here\n"
        f"next: pass --experiment {target}, or remove the link: rm {place}\n",
    )
    assert invoke("score", "--experiment", str(target)).code == 0


def test_lists_report_links_and_continue(linked: Path, tmp_path: Path, invoke: Invoke) -> None:
    (linked / "experiments" / "other").mkdir()
    (linked / "experiments" / "other" / "config.toml").write_text("[folds]\nk = 2\n")
    answer = invoke("leaderboard")
    assert answer.code == 0
    rows = pd.read_csv(linked / "experiments" / "leaderboard.csv").set_index("experiment")["state"]
    assert rows.to_dict() == {
        "tiny": f"{linked}/experiments/tiny is a link to {tmp_path}/experiments-tiny, and ffdi follows no links here",
        "other": "not trained",
    }
    answer = invoke("verify")
    assert answer.code == 1
    assert f"\n{linked}/experiments/other: 0 files, none at fault" in f"\n{answer.out}"
    for top in ("experiments", "exports"):
        message = f"  {linked}/{top}/tiny is a link to {tmp_path}/{top}-tiny: what it leads to is not checked\n"
        assert message in answer.err


def test_verify_reports_links_at_any_depth(copy: Path, invoke: Invoke, tmp_path: Path) -> None:
    fold = copy / "experiments" / "tiny" / "fold_0"
    fold.rename(tmp_path / "fold_0")
    fold.symlink_to(tmp_path / "fold_0")
    answer = invoke("verify")
    assert answer.code == 1
    assert f"  {fold} is a link to {tmp_path}/fold_0: what it leads to is not checked\n" in answer.err


def test_folders_in_flags_may_be_links(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for top in ("experiments", "exports", "data"):
        (copy / top).rename(elsewhere / top)
        (copy / top).symlink_to(elsewhere / top)
    (elsewhere / "out").mkdir()
    for name, target in {"root": copy, "images": competition, "out": elsewhere / "out"}.items():
        (tmp_path / name).symlink_to(target)
    monkeypatch.setenv("FFDI_ROOT", str(tmp_path / "root"))
    data = ("--data", str(tmp_path / "images"))
    assert invoke("cache", *OF, *data).code == 0
    assert invoke("score", *OF).code == 0
    output = ("--output", str(tmp_path / "out" / "scores.csv"))
    assert invoke("predict-onnx", *OF, *data, "--device", "cpu", *output).code == 0
    assert sorted(path.name for path in (elsewhere / "out").iterdir()) == ["scores.csv", "scores.json"]
    answer = invoke("verify")
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.usefixtures("copy")
def test_shards_of_another_user_are_not_used(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = tmp_path / "scores.csv.parts"
    pieces.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    answer = invoke("predict-onnx", *OF, "--device", "cpu", "--output", str(tmp_path / "scores.csv"))
    assert (answer.code, answer.err) == (
        1,
        f"error: {pieces} belongs to another user\nnext: remove it, or pass another --output\n",
    )
    assert list(pieces.iterdir()) == []


# --- graphs ----------------------------------------------------------------------------------------------------------


def outside(location: str) -> TensorProto:
    """Weights in another file."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    return weight


def graph(*nodes: onnx.NodeProto, weight: TensorProto | None = None, domain: str = "") -> onnx.ModelProto:
    """A graph with these nodes, and a node that gives scores."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32, 32, 3])
    y_pred = helper.make_tensor_value_info("y_pred", TensorProto.FLOAT, ["batch"])
    own = helper.make_node("Identity", ["weight"], ["y_pred"])
    drawn = helper.make_graph([*nodes, own], "graph", [images], [y_pred], [weight] if weight else [])
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(drawn, opset_imports=opsets)


def constant(location: str) -> onnx.NodeProto:
    """Weights in a node."""
    return helper.make_node("Constant", [], ["weight"], value=outside(location))


def with_inner(kind: str, depth: int = 1) -> onnx.ModelProto:
    """A node with a graph inside of it, in which is another one, and so on."""
    out = helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["batch"])
    own = helper.make_node("Identity", ["images"], ["weight"])
    for _ in range(depth):
        branch = helper.make_graph([own], "inner", [], [out])
        names = ("then_branch", "else_branch") if kind == "If" else ("body",)
        own = helper.make_node(kind, ["images"], ["weight"], **dict.fromkeys(names, branch))
    return graph(own)


def nested(depth: int) -> bytes:
    """A graph in a node of a graph, and so on, as protobuf writes it."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    inside = b""
    for _ in range(depth):
        inside = field(1, field(4, b"Loop") + field(5, field(6, inside)))  # node, its operator, its attribute
    return field(7, inside)


def with_function(domain: str) -> onnx.ModelProto:
    """A custom function."""
    model = graph(weight=onnx.numpy_helper.from_array(np.zeros(4, np.float32), "weight"))
    body = helper.make_node("Evil", ["x"], ["y"], domain=domain)
    model.functions.append(helper.make_function("here", "f", ["x"], ["y"], [body], [helper.make_opsetid(domain, 1)]))
    return model


def sized(kind: str, *given: str) -> onnx.ModelProto:
    """A node that takes how large its output is from the sum of the pixels, by a way around."""
    summed = helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0)
    whole = helper.make_node("Cast", ["sum"], ["size"], to=TensorProto.INT64)
    around = helper.make_node("Mul", ["size", "size"], ["more"])
    return graph(summed, whole, around, helper.make_node(kind, list(given), ["weight"]))


GRAPHS: dict[str, tuple[Callable[[Path], bytes | onnx.ModelProto], str]] = {
    "weights above the folder": (lambda _: graph(weight=outside("../../secret.bin")), "keeps weights in another file"),
    "weights at an absolute place": (lambda place: graph(weight=outside(str(place))), "keeps weights in another file"),
    "weights behind a link": (lambda _: graph(weight=outside("link.bin")), "keeps weights in another file: link.bin"),
    "weights behind a hard link": (lambda _: graph(weight=outside("hard.bin")), "keeps weights in another file"),
    "weights in a node": (lambda place: graph(constant(str(place))), "keeps weights in another file"),
    "custom operators": (
        lambda _: graph(helper.make_node("Evil", ["images"], ["weight"], domain="evil"), domain="evil"),
        "has the operator 'evil.Evil'",
    ),
    "an operator that is none": (lambda _: graph(helper.make_node("Evil", ["images"], ["weight"])), "operator 'Evil'"),
    "a custom function": (lambda _: with_function("evil"), "has functions of its own"),
    "a loop": (lambda _: with_inner("Loop"), r"has a graph inside a node \(Loop\)"),
    "a scan": (lambda _: with_inner("Scan"), r"has a graph inside a node \(Scan\)"),
    "a branch": (lambda _: with_inner("If"), r"has a graph inside a node \(If\)"),
    "branches in branches": (lambda _: with_inner("If", 9), r"has a graph inside a node \(If\)"),
    "loops without end in each other": (lambda _: nested(1000), "is not an ONNX graph: DecodeError"),
    "a size from the pixels": (lambda _: sized("ConstantOfShape", "more"), r"sizes from the pixels \(ConstantOf"),
    "repeats from the pixels": (lambda _: sized("Tile", "images", "more"), r"sizes from the pixels \(Tile\)"),
    "a range from the pixels": (lambda _: sized("Range", "size", "more", "size"), r"the pixels \(Range\)"),
    "a scale from the pixels": (lambda _: sized("Resize", "images", "", "sum"), r"the pixels \(Resize\)"),
    "places that are not black": (lambda _: graph(helper.make_node("NonZero", ["images"], ["weight"])), "'NonZero'"),
    "random numbers": (lambda _: graph(helper.make_node("RandomUniformLike", ["images"], ["weight"])), "'RandomUni"),
    "a sequence": (lambda _: graph(helper.make_node("SequenceConstruct", ["images"], ["weight"])), "'SequenceCon"),
    "nodes in another order": (
        lambda _: graph(helper.make_node("Abs", ["a"], ["weight"]), helper.make_node("Abs", ["images"], ["a"])),
        "does not have its nodes in order",
    ),
    "noise": (lambda _: np.random.default_rng(0).bytes(4096), "is not an ONNX graph: DecodeError"),
    "a pickle": (lambda place: pickle.dumps(Attack(place.parent)), "is not an ONNX graph: DecodeError"),
}


@pytest.fixture
def exports(copy: Path, secret: Path) -> Path:
    """A foreign export, with a secret in its folder."""
    folder = copy / "exports" / "tiny"
    (folder / "hard.bin").hardlink_to(secret)
    return folder


@pytest.mark.parametrize("what", GRAPHS)
def test_hostile_graphs_are_refused(what: str, secret: Path) -> None:
    make, message = GRAPHS[what]
    made, path = make(secret), secret.parent / "model.onnx"
    (secret.parent / "link.bin").symlink_to(secret)
    (secret.parent / "hard.bin").hardlink_to(secret)
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    EVENTS.clear()
    with pytest.raises(ExperimentError, match=message):
        onnx_safety.inspect_graph(path)


def test_no_command_opens_a_refused_graph(exports: Path, secret: Path, invoke: Invoke) -> None:
    (exports / "model.onnx").write_bytes(graph(weight=outside(str(secret))).SerializeToString())
    reseal(exports)
    EVENTS.clear()
    for command in (["predict-onnx"], ["predict-onnx", "--selftest"], ["serve"], ["predict-onnx", "--engine", "ray"]):
        answer = invoke(*command, "--experiment", "tiny", "--device", "cpu")
        assert (answer.code, answer.err) == (
            1,
            f"error: {exports}/model.onnx keeps weights in another file: {secret}\n"
            "next: do not use this file; export again, or ask whoever gave it to you\n",
        )


def test_an_exported_graph_passes_and_is_vetted_once(
    copy: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    vetted = copy / "data" / "vetted"
    shutil.rmtree(vetted)  # as if the graph came from another machine
    words = ("predict-onnx", "--experiment", "tiny", "--device", "cpu", "--selftest")
    assert invoke(*words).code == 0
    (mark,) = vetted.iterdir()
    monkeypatch.setattr(onnx_safety, "check_graph", lambda *_: pytest.fail("it was vetted before"))
    assert invoke(*words).code == 0
    mark.unlink()
    sha256 = hashlib.sha256((copy / "exports" / "tiny" / "model.onnx").read_bytes()).hexdigest()
    (vetted / sha256).touch()  # a mark of earlier versions, which did not run the graph
    with pytest.raises(pytest.fail.Exception):
        invoke(*words)


def files(name: str) -> Callable[[dict[str, Any]], None]:
    """A bundle that lists another file."""

    def change(content: dict[str, Any]) -> None:
        content["files"][name] = hashlib.sha256(bytes(4096)).hexdigest()

    return change


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    """A bundle that lacks something."""

    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


BUNDLES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a file above the folder": files("../../secret.bin"),
    "no files": without("files"),
    "no input": without("input"),
    "no shape": without("input", "shape"),
    "no runtimes": without("runtimes"),
    "no plain runtime": without("runtimes", "cpu"),
    "no graph among the files": without("files", "model.onnx"),
    "a size beyond all": lambda content: content["input"].update(shape=["batch", 10**9, 10**9, 3]),
    "a size that is none": lambda content: content["input"].update(shape=["batch", "huge", 1, 3]),
    "a limit that is none": lambda content: content["runtimes"]["cpu"].update(limit="wide"),
}


@pytest.mark.parametrize("what", BUNDLES)
def test_hostile_or_incomplete_bundles_are_refused(what: str, exports: Path, invoke: Invoke) -> None:
    reseal(exports, BUNDLES[what])
    EVENTS.clear()
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu")
    assert answer.code == 1, what
    assert answer.err.startswith(f"error: {exports}")
    assert "next: " in answer.err


@pytest.mark.parametrize("name", ["../../../secret.bin", "/etc/passwd", "sub/face.jpg", "00.jpg/../../x"])
def test_golden_images_outside_their_folder_are_refused(name: str, exports: Path, invoke: Invoke) -> None:
    golden = exports / "golden" / "golden.csv"
    golden.write_text(golden.read_text() + f"{name},0.5\n")
    lines = golden.read_text().splitlines()
    golden.write_text("\n".join([lines[0], lines[-1], *lines[1:-1]]) + "\n")
    reseal(exports)
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu")
    assert (answer.code, answer.err.splitlines()[0]) == (
        1,
        f"error: {golden} names a file outside of its folder: {name}",
    )


# --- data and documents ----------------------------------------------------------------------------------------------


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A PNG with this declared size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + extra + pixels + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG with a text that is a hundred MiB when it is unpacked."""
    content = b"comment\0\0" + zlib.compress(bytes(100 * 2**20))
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    return png(8, 8, chunk)


IMAGES: dict[str, Callable[[Path], bytes]] = {
    "a bomb of pixels": lambda _: png(60_000, 60_000),
    "a bomb of text": lambda _: text_bomb(),
    "a pickle": lambda secret: pickle.dumps(Attack(secret.parent)),
    "a vector graphic": lambda secret: f'<svg><image href="{secret}"/></svg>'.encode(),
    "a script for a printer": lambda secret: f"%!PS-Adobe\n({secret}) run".encode(),
    "a GIF": lambda _: b"GIF89a" + bytes(100),
}


@pytest.mark.parametrize("what", IMAGES)
def test_bad_image_files_are_listed(what: str, copy: Path, secret: Path, invoke: Invoke) -> None:
    folder = copy / "images"
    folder.mkdir()
    (folder / "face.png").write_bytes(IMAGES[what](secret))
    EVENTS.clear()
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", "--images", str(folder))
    assert answer.code == 1
    assert answer.err.startswith("error: 1 of 1 image cannot be used; no result was written")
    assert f"  {folder}/face.png " in answer.err


def test_pipes_and_devices_are_not_read(copy: Path, invoke: Invoke) -> None:
    folder = copy / "images"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "list.csv").write_text("img_name\npipe.png\nzero.png\n")
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", "--images", str(folder / "list.csv"))
    assert answer.code == 1
    assert "pipe.png" in answer.err
    assert "zero.png" in answer.err


CONFIGS = {
    "brackets": "a = " + "[" * 100_000,
    "a number without end": f"seed = {'9' * 5000}",
    "unknown keys": "[model]\n__class__ = 'x'",
    "NUL": "seed = 1\0",
    "no text": b"\xff\xfe\x00".decode("latin-1"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_hostile_configs_are_refused(what: str, workspace: Path, competition: Path, invoke: Invoke) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(CONFIGS[what], encoding="latin-1")
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 1
    assert answer.err.startswith(f"error: {path} ")
    assert "next: " in answer.err


LABELS = {
    "NUL": "a\0.jpg,1",
    "a place above": "../secret.jpg,1",
    "an absolute place": "/etc/passwd,1",
    "a command for a spreadsheet": "=cmd|' /C calc'!A0,1",
    "another command": "@SUM(1+1)*cmd,1",
    "a link of another kind": "C:\\secret.jpg,1",
}


@pytest.mark.parametrize("what", LABELS)
@pytest.mark.usefixtures("secret")
def test_label_files_with_outside_paths_are_refused(
    what: str, workspace: Path, tmp_path: Path, competition: Path, invoke: Invoke
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in competition.iterdir():
        (data / path.name).symlink_to(path)
    labels = data / "trainset_label.txt"
    content = labels.read_text()
    labels.unlink()
    labels.write_text(content + LABELS[what] + "\n")
    EVENTS.clear()
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(data))
    assert answer.code == 1
    assert "trainset_label.txt line 66: " in answer.err
    assert not (workspace / "experiments" / "tiny" / "folds.csv").exists()


DOCUMENTS = {
    "brackets": "[" * 100_000,
    "a number without end": '{"schema": 1' + "0" * 5000 + "}",
    "no text": "\xff\xfe",
    "a list": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("what", DOCUMENTS)
@pytest.mark.parametrize("name", ["resolved.json", "fold_0/manifest.json", "metrics.json"])
def test_hostile_manifests_are_refused(what: str, name: str, copy: Path, invoke: Invoke) -> None:
    path = copy / "experiments" / "tiny" / name
    path.write_text(DOCUMENTS[what], encoding="latin-1")
    answer = invoke("ensemble-submit", "--experiment", "tiny")
    assert answer.code == 1
    assert answer.err.startswith(f"error: {path} ")
    assert "next: " in answer.err


def test_a_foreign_checkpoint_is_refused(copy: Path, competition: Path, invoke: Invoke) -> None:
    folder = copy / "experiments" / "tiny" / "fold_0"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    tensors = folder / "checkpoint-000000001.safetensors"
    tensors.write_bytes((folder / "weights.safetensors").read_bytes())
    owner = {key: manifest[key] for key in ("fold", "identity", "folds")}
    record = {**owner, "sha256": manifests.hash_file(tensors), "state": {}}
    manifests.write_manifest(tensors.with_suffix(".json"), record)
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 1
    assert answer.err.startswith(f"error: {tensors} is not a checkpoint of this training: ")


def test_no_module_reads_a_pickle() -> None:
    package = Path(publish.__file__).parents[1]
    words = ("import pickle", "import dill", "joblib", "read_pickle", "allow_pickle", "torch.load(", "eval(", "exec(")
    found = {
        (path.relative_to(package).as_posix(), word)
        for path in package.rglob("*.py")
        for word in words
        if word in path.read_text().replace(".eval(", "")
    }
    assert found == {("models/unpickle.py", "torch.load(")}


def test_a_damaged_scan_store_is_refused(workspace: Path, competition: Path, invoke: Invoke) -> None:
    path = workspace / "data" / "findings.sqlite"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.random.default_rng(0).bytes(8192))
    answer = invoke("doctor", "--experiment", "tiny", "--data", str(competition))
    assert answer.code == 1
    assert str(path) in answer.err
    assert f"rm {path}" in answer.err

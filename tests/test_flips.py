"""A file in which one bit has changed, or that was cut short, is never taken for the one that was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ffdi.commands import verify
from ffdi.core import manifests
from tests import faults
from tests.conftest import TINY, Invoke

OWN = {"config.toml", ".lock"}
"""What a person writes, and what holds nothing."""


def artefacts(root: Path) -> list[Path]:
    """Every file that ffdi has published in a workspace."""
    found = [path for top in ("experiments", "exports") for path in (root / top).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.name not in OWN)


def checked(root: Path) -> list[verify.FileCheck]:
    """The result of an audit of all experiments and exports."""
    return [
        one
        for top in ("experiments", "exports")
        for folder in (root / top).iterdir()
        for one in verify.audit_folder(folder)
    ]


def harmed(content: bytes, rng: np.random.Generator) -> bytes:
    """With one bit, byte or end changed."""
    at = int(rng.integers(len(content)))
    kind = rng.integers(4)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content + rng.bytes(1)
    changed = (
        content[at] ^ (1 << int(rng.integers(8))) if kind == 2 else (content[at] + int(rng.integers(1, 256))) % 256
    )
    return content[:at] + bytes([changed]) + content[at + 1 :]


def slips(root: Path, count: int, seed: int) -> Iterator[tuple[Path, int]]:
    """Harms so many files, one at a time, and yields those that an audit passes."""
    rng = np.random.default_rng(seed)
    paths = artefacts(root)
    for number in range(count):
        path = paths[number % len(paths)]
        content = path.read_bytes()
        path.write_bytes(harmed(content, rng))
        same = path.suffix == ".json" and says_the_same(content, path.read_bytes())
        if not same and not any(one.fault for one in checked(root)):
            yield path, number
        path.write_bytes(content)


def says_the_same(one: bytes, other: bytes) -> bool:
    """Whether two JSON files differ in white space at most, which no hash of their content covers."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def make_complete(root: Path, competition: Path) -> None:
    """Adds every other kind of file to a workspace."""
    for flag in ("--stress", "--reencoded", "--shift"):
        assert faults.run(["score", "--experiment", "tiny", flag], root).code == 0
    second = root / "experiments" / "stopped"
    second.mkdir()
    (second / "config.toml").write_text(TINY)
    words = ["train-folds", "--experiment", "stopped", "--data", str(competition), "--max-time", "0.01s"]
    assert faults.run(words, root).code == 75


def test_every_file_is_checked_and_every_damage_is_found(copy: Path, competition: Path) -> None:
    make_complete(copy, competition)
    everything = checked(copy)
    assert [one for one in everything if one.fault] == []
    assert sorted(one.path for one in everything) == artefacts(copy)
    assert any(path.name.startswith("checkpoint-") for path in artefacts(copy))
    assert list(slips(copy, count=8 * len(artefacts(copy)), seed=1)) == []


def test_verify_lists_damaged_and_missing_files(copy: Path, invoke: Invoke) -> None:
    answer = invoke("verify")
    assert (answer.code, answer.err) == (0, "")
    folders = [copy / "experiments" / "tiny", copy / "exports" / "tiny"]
    counts = [len(list(verify.audit_folder(folder))) for folder in folders]
    assert answer.out.splitlines() == [
        f"{folder}: {count} files, none at fault" for folder, count in zip(folders, counts, strict=True)
    ]
    weights, model = folders[0] / "fold_1" / "weights.safetensors", folders[1] / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1])
    model.unlink()
    answer = invoke("verify", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        "error: 2 files are not what was written\n"
        f"  {weights} is damaged: its hash is not the one in manifest.json\n"
        f"  {model} is missing: bundle.json lists it\n"
        "next: restore them from a copy, or remove their folder and run its command again\n",
    )


def test_verify_reports_an_empty_workspace(workspace: Path, invoke: Invoke) -> None:
    shutil.rmtree(workspace / "experiments")
    answer = invoke("verify")
    assert (answer.code, answer.out) == (0, f"nothing to check: {workspace} has neither experiments/ nor exports/\n")


def test_a_manifest_without_files_is_a_fault(tmp_path: Path) -> None:
    manifests.write_manifest(tmp_path / "manifest.json", {"fold": 0})
    manifests.write_manifest(tmp_path / "bundle.json", {"files": "all"})
    assert [one.fault for one in verify.audit_folder(tmp_path)] == [
        f"{tmp_path}/{name} is damaged: it does not list its files" for name in ("bundle.json", "manifest.json")
    ]

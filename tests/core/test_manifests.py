"""Manifests have their schema and their own hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ffdi.core import manifests
from ffdi.core.errors import ExperimentError


def test_a_manifest_is_read_back_with_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    manifests.write_manifest(path, {"b": 1, "a": "ä"})
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["schema", "content_sha256", "b", "a"]
    assert manifests.read_manifest(path) == {"schema": manifests.SCHEMA, "b": 1, "a": "ä"}


RECREATE = "next: create it again: train-folds --restart for an experiment, export-onnx for an export"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "{path} is missing"),
        ('{"schema": 999}', "{path} was not written by this version of ffdi\nnext: update ffdi"),
        ('{"schema": 1}', "{path} was not written by this version of ffdi\n" + RECREATE),
        ('{"schema": "2"}', "{path} was not written by this version of ffdi\n" + RECREATE),
        ("{}", "{path} was not written by this version of ffdi\n" + RECREATE),
        ("[]", "{path} was not written by this version of ffdi\n" + RECREATE),
        (
            "{",
            "{path} is damaged: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
            "next: remove it and run again: rm {path}",
        ),
    ],
)
def test_a_damaged_or_foreign_manifest_is_refused(content: str | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExperimentError) as caught:
        manifests.read_manifest(path)
    assert str(caught.value) == expected.format(path=path)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert manifests.hash_json({"a": 1, "b": [2, 3]}) == manifests.hash_json({"b": [2, 3], "a": 1})
    assert manifests.hash_json({"a": 1}) != manifests.hash_json({"a": 2})


def test_a_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    path, record = tmp_path / "a.csv", tmp_path / "record.json"
    path.write_bytes(b"content")
    assert manifests.hash_file(path) == hashlib.sha256(b"content").hexdigest()
    manifests.check_hash(path, manifests.hash_file(path), record, hint="again")
    for content, fault in ((b"other", "is damaged: its hash is not the one in record.json"), (None, "is missing: ")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ExperimentError) as caught:
            manifests.check_hash(path, hashlib.sha256(b"content").hexdigest(), record, hint="again")
        message = fault + ("record.json lists it" if content is None else "")
        assert str(caught.value) == f"{path} {message}\nnext: again"

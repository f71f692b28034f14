"""Documents say their schema, and whether they are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffdi.core import manifests
from ffdi.core.errors import ExperimentError


def test_a_document_comes_back_and_says_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    manifests.write_manifest(path, {"b": 1, "a": "ä"})
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["schema", "content_sha256", "b", "a"]
    assert manifests.read_manifest(path) == {"schema": manifests.SCHEMA, "b": 1, "a": "ä"}


ANEW = "next: make it anew: train-folds --restart an experiment, export-onnx an export"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "{path} is missing"),
        ('{"schema": 999}', "{path} was not written by this version of ffdi\nnext: update ffdi"),
        ('{"schema": 1}', "{path} was not written by this version of ffdi\n" + ANEW),
        ('{"schema": "2"}', "{path} was not written by this version of ffdi\n" + ANEW),
        ("{}", "{path} was not written by this version of ffdi\n" + ANEW),
        ("[]", "{path} was not written by this version of ffdi\n" + ANEW),
        (
            "{",
            "{path} is damaged: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
            "next: remove it and run again: rm {path}",
        ),
    ],
)
def test_a_document_that_cannot_be_trusted_is_refused(content: str | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExperimentError) as caught:
        manifests.read_manifest(path)
    assert str(caught.value) == expected.format(path=path)

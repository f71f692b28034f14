"""Hashes tell whether a file is the one that was written down."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ffdi.core import hashes
from ffdi.core.errors import ExperimentError


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert hashes.hash_json({"a": 1, "b": [2, 3]}) == hashes.hash_json({"b": [2, 3], "a": 1})
    assert hashes.hash_json({"a": 1}) != hashes.hash_json({"a": 2})


def test_a_file_is_what_was_written_down_or_refused(tmp_path: Path) -> None:
    path, record = tmp_path / "a.csv", tmp_path / "record.json"
    path.write_bytes(b"content")
    assert hashes.sha256(path) == hashlib.sha256(b"content").hexdigest()
    hashes.check_hash(path, hashes.sha256(path), record, hint="again")
    for content, fault in ((b"other", "is damaged: its hash is not the one in record.json"), (None, "is missing: ")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ExperimentError) as caught:
            hashes.check_hash(path, hashlib.sha256(b"content").hexdigest(), record, hint="again")
        said = fault + ("record.json lists it" if content is None else "")
        assert str(caught.value) == f"{path} {said}\nnext: again"

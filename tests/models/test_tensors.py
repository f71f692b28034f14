"""Tensors in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from ffdi.models import weights


def test_saved_tensors_are_loaded_and_readable_by_others(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.safetensors", tmp_path / "plain"
    weights.save_tensors({"a": torch.arange(3)}, path)
    plain.touch()
    assert safetensors.torch.load_file(path)["a"].tolist() == [0, 1, 2]
    assert path.stat().st_mode == plain.stat().st_mode


def test_an_unwritable_folder_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device"):
        weights.save_tensors({}, tmp_path / "a.safetensors")


def test_any_other_error_is_raised_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise safetensors.SafetensorError("invalid header")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(safetensors.SafetensorError, match="invalid header"):
        weights.save_tensors({}, tmp_path / "a.safetensors")

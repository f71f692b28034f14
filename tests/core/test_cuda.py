"""The CUDA driver, faked: this machine need not have one."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from ffdi.core import cuda
from ffdi.core.cuda import Driver, Gpu


class Library:
    """Fake of libcuda: functions write through the pointers that they get."""

    def __init__(self, version: int, gpus: list[Gpu], error: int = 0) -> None:
        self.version, self.gpus, self.error = version, gpus, error

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.error

    def cuGetErrorString(self, error: int, text: Any) -> int:
        text._obj.value = b"system has unsupported display driver / cuda driver combination" if error == 803 else None
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = self.gpus[device.value].name.encode()[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self.gpus[device.value].capability[attribute - 75]
        return 0


CARDS = [Gpu("Tesla T4", (7, 5)), Gpu("NVIDIA H200", (9, 0))]


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        (Library(12040, CARDS), Driver((12, 4), tuple(CARDS))),
        (Library(13000, []), None),
        (Library(13000, CARDS, error=100), None),
        (Library(13000, CARDS, error=34), None),
        (
            Library(12080, CARDS, error=803),
            Driver((12, 8), fault="CUDA error 803: system has unsupported display driver / cuda driver combination"),
        ),
        (Library(12080, CARDS, error=999), Driver((12, 8), fault="CUDA error 999: unknown")),
    ],
)
def test_the_driver_is_asked(library: Library, expected: Driver | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    assert cuda.query_driver() == expected


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert cuda.query_driver() is None


def test_gpus_are_counted_and_named() -> None:
    assert Driver((12, 4), tuple(CARDS)).describe_gpus() == "2 GPUs (Tesla T4, NVIDIA H200)"
    assert Driver((12, 4), tuple(CARDS[:1])).describe_gpus() == "1 GPU (Tesla T4)"

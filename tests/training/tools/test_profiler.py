"""What a profile says of steps whose kernels run on a GPU."""

from __future__ import annotations

import pytest
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent, FunctionEventAvg, Kernel

from ffdi.training.loop import FORWARD, OPTIMIZER
from ffdi.training.tools import profiler
from ffdi.training.tools.profiler import STEPS, WAITING, Part

MILLISECOND = 1000 * STEPS
"""One millisecond of each step, in microseconds of the whole."""


class Recorded:
    """Stands in for torch's profile."""

    def __init__(self, *events: FunctionEvent) -> None:
        self._events = EventList(events)
        self._events._tree_built = True  # the events have no parents

    def key_averages(self) -> EventList:
        return self._events.key_averages()


def event(name: str, milliseconds: float, *kernels: float, device: DeviceType = DeviceType.CPU) -> FunctionEvent:
    """An event as from a GPU's profile: of the CPU with the times of the kernels that it starts, or of the GPU."""
    one = FunctionEvent(
        id=len(name),
        name=name,
        thread=1,
        start_us=0,
        end_us=milliseconds * MILLISECOND,
        device_type=device,
        use_device="cuda",
        stack=[],
    )
    one.kernels = [Kernel("kernel", 0, duration * MILLISECOND) for duration in kernels]
    return one


def measure(*events: FunctionEvent) -> tuple[list[Part], list[Part]]:
    calls = profiler._average_calls(Recorded(*events))  # type: ignore[arg-type]
    return profiler._measure_parts(calls), profiler._rank_operators(calls)


def test_parts_have_the_time_of_the_cpu_and_operators_that_of_their_kernels() -> None:
    parts, operators = measure(
        event(WAITING, 1),
        event(FORWARD, 4),
        event(OPTIMIZER, 2),
        event("aten::convolution", 3, 6, 7),
        event("aten::relu", 5, 1),
        event("cudaDeviceSynchronize", 40),
        # the GPU's own events: kernels, and the parts once more
        event(FORWARD, 30, device=DeviceType.CUDA),
        event(OPTIMIZER, 3, device=DeviceType.CUDA),
        event("sm90_xmma_fprop", 13, device=DeviceType.CUDA),
    )
    assert parts == [Part(WAITING, 1), Part(FORWARD, 4), Part(OPTIMIZER, 2)]
    assert operators == [Part("aten::convolution", 13), Part("aten::relu", 1)]


def test_operators_of_a_cpu_have_their_own_time() -> None:
    _, operators = measure(event("aten::relu", 5), event("aten::convolution", 30), event("enumerate(loader)", 60))
    assert operators == [Part("aten::convolution", 30), Part("aten::relu", 5)]


def test_a_range_of_the_gpu_has_the_key_of_the_part_and_no_time_of_the_cpu() -> None:
    """Why the device is looked at."""
    averages = Recorded(event(FORWARD, 4), event(FORWARD, 30, device=DeviceType.CUDA)).key_averages()
    found: list[FunctionEventAvg] = list(averages)
    assert sorted((one.key, one.cpu_time_total) for one in found) == [
        (FORWARD, 0),
        (FORWARD, pytest.approx(4 * MILLISECOND)),
    ]

"""The rehearsal of `sync` on a CPU: nothing waits there, so values that Python reads from tensors are refused.

On a GPU, each such read waits for the device. The networks' tensors, and all that is computed from them, are followed.
Copies to the host cannot be seen: on a CPU they are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""torch's tags of operations whose result Python needs before it can go on: item, nonzero, equal and the like."""


class HostReads(TorchDispatchMode):
    """Inside, an operation that reads from a followed tensor raises a RuntimeError with its name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _follow([*network.parameters(), *network.buffers()])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _list_tensors([*args, *kwargs.values()])
        if not any(hasattr(tensor, "followed") for tensor in given):
            return func(*args, **kwargs)
        if READS.intersection(func.tags) and _needs_values(func, given):
            raise RuntimeError(f"{func} reads values of the network")
        result = func(*args, **kwargs)
        written = (args[place] if place < len(args) else kwargs.get(name) for place, name in _list_written(func))
        _follow(_list_tensors([result, *(result if isinstance(result, tuple) else ()), *written]))
        return result


def _follow(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        tensor.followed = True  # type: ignore[attr-defined]


def _list_tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among values and in lists of tensors among them."""
    groups = (value if isinstance(value, list | tuple) else (value,) for value in values)
    return [one for group in groups for one in group if isinstance(one, Tensor)]


def _needs_values(func: Any, given: list[Tensor]) -> bool:
    """Indices that are numbers give a result of a known shape; a mask does not."""
    masked = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in given)
    return func.overloadpacket is not torch.ops.aten.index or masked


@cache
def _list_written(func: Any) -> list[tuple[int, str]]:
    """The places and names of the arguments that an operation writes into."""
    arguments = enumerate(func._schema.arguments)
    return [(place, one.name) for place, one in arguments if one.alias_info is not None and one.alias_info.is_write]

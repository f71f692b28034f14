"""What shows in tests on a CPU that a GPU would be waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = (
    *("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal"),
    "repeat_interleave",  # with counts on the device
)


class Refuse(TorchDispatchMode):
    """Refuses operations whose result the host must see, or whose shape hangs on values: a GPU would be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        name = func.overloadpacket.__name__
        assert name not in WAITS, name
        if name in ("index", "index_put_"):
            assert all(one is None or one.dtype != torch.bool for one in args[1])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def deterministic() -> Iterator[None]:
    """As in a training on a GPU; a CPU has kernels for all, but torch checks some operations before it chooses one."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)

"""The processes that train one network together, each on its part of every batch; this one alone, where none joined.

Gradients are averaged by torch's DistributedDataParallel, and BatchNorm sees the whole batch: the network learns what
one process would from the same batches.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.distributed.nn import functional as across
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from ffdi.data.loading.sampler import RankShard
from ffdi.training.runtime.device import Device, Network

PATIENCE = timedelta(hours=2)
"""How long one waits for the others, which may have many images more to look at."""


@contextmanager
def process_group(rank: int, count: int, meeting: Path, device: Device) -> Iterator[None]:
    """Inside, this process is one of several on this machine that train a network together; to be left by it for good.

    Args:
        rank: its number, from 0; the first one leads.
        count: of them.
        meeting: a file that is not there yet, at the same place for all.
        device: its own.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())  # a machine's own name may lead nowhere
    device.select()
    where = meeting.absolute().as_uri()
    dist.init_process_group(device.backend, init_method=where, rank=rank, world_size=count, timeout=PATIENCE)
    yield
    dist.destroy_process_group()


def _loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def world_size() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this one speaks for all, and writes."""
    return rank() == 0


def rank_shard() -> RankShard:
    """What of each batch is this one's."""
    return RankShard(rank(), world_size())


def local_rows(length: int) -> np.ndarray:
    """Which of so many rows are this one's, one behind the other: int64 [M]; the parts differ by one at most."""
    return np.arange(length * rank() // world_size(), length * (rank() + 1) // world_size())


def total(value: int) -> int:
    """The sum of all their values."""
    return int(all_reduce(torch.tensor(value)).item()) if dist.is_initialized() else value


def all_reduce(values: torch.Tensor) -> torch.Tensor:
    """The sums of all their values, which have the same shape; may be written into `values`."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def all_gather(values: np.ndarray) -> np.ndarray:
    """All their arrays, in their order, one behind the other."""
    if not dist.is_initialized():
        return values
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, values)
    return np.concatenate(found)


def prepared(network: Network, device: Device) -> Network:
    """A network whose BatchNorm sees the whole batch, where its device has a layer for that; see `whole_batches`."""
    return network if world_size() == 1 or device.name == "cpu" else convert_sync_batchnorm(network)


def wrap_ddp(network: nn.Module, device: Device) -> nn.Module:
    """A network whose gradients are averaged over all of them: those of the parameters that learn just now."""
    if world_size() == 1:
        return network
    gc.collect()  # one that was made before would still average them too, as long as it is there
    return DistributedDataParallel(network, device_ids=device.ids)


def no_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Inside, gradients of what `wrap_ddp` gave add up in this process, and are not averaged."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def whole_batches(device: Device) -> AbstractContextManager[object]:
    """Inside, BatchNorm in training takes mean and variance over all of them, on devices that have no layer for it."""
    return _WholeBatches() if world_size() > 1 and device.name == "cpu" else nullcontext()


class _WholeBatches(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    images: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """As torch's, over the batches of all."""
    if not training:
        return functional.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
    values = images.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    seen = torch.tensor([values.numel() / values.shape[1]])
    sums = across.all_reduce(torch.cat([values.sum(axes), seen]))
    number, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    shape = [1, -1, *[1] * (values.ndim - 2)]
    centred = values - mean.view(shape)
    variance = across.all_reduce(centred.square().sum(axes)) / number
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * number / (number - 1), momentum)
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    normalised = centred * scale.view(shape)
    return (normalised if bias is None else normalised + bias.view(shape)).to(images.dtype)

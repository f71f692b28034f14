"""Data-parallel training: the ranks of a process group train one network, each on its part of each batch.

torch's DistributedDataParallel averages the gradients, and BatchNorm uses the statistics of the whole batch. So the
network learns the same as with one process and the same batches. Without a process group, this process is rank 0 of 1.
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

TIMEOUT = timedelta(hours=2)
"""The timeout of a collective operation: ranks may have different numbers of images to score."""


@contextmanager
def process_group(rank: int, world_size: int, rendezvous: Path, device: Device) -> Iterator[None]:
    """Makes this process a member of a process group on this machine. A process can join one group only.

    Args:
        rank: from 0; rank 0 writes the files.
        world_size: the number of ranks.
        rendezvous: a file that does not exist yet, the same for all ranks.
        device: of this rank.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _find_loopback())  # the machine's host name may not resolve
    device.select()
    url = rendezvous.absolute().as_uri()
    dist.init_process_group(device.backend, init_method=url, rank=rank, world_size=world_size, timeout=TIMEOUT)
    yield
    dist.destroy_process_group()


def _find_loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def get_world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def get_rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes the files."""
    return get_rank() == 0


def get_rank_shard() -> RankShard:
    """The part of each batch that this rank trains on."""
    return RankShard(get_rank(), get_world_size())


def select_local_rows(length: int) -> np.ndarray:
    """The rows of a table with `length` rows that this rank scores: int64 [M], contiguous; M differs by one at most."""
    return np.arange(length * get_rank() // get_world_size(), length * (get_rank() + 1) // get_world_size())


def sum_over_ranks(value: int) -> int:
    return int(all_reduce(torch.tensor(value)).item()) if dist.is_initialized() else value


def all_reduce(values: torch.Tensor) -> torch.Tensor:
    """The sum over the ranks, of tensors of the same shape; may write into `values`."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def all_gather(values: np.ndarray) -> np.ndarray:
    """The arrays of all ranks, concatenated in the order of the ranks."""
    if not dist.is_initialized():
        return values
    parts: list[Any] = [None] * get_world_size()
    dist.all_gather_object(parts, values)
    return np.concatenate(parts)


def convert_batch_norm(network: Network, device: Device) -> Network:
    """Replaces BatchNorm by torch's SyncBatchNorm, which exists for GPUs only; for CPUs see `sync_batch_norm`."""
    return network if get_world_size() == 1 or device.name == "cpu" else convert_sync_batchnorm(network)


def wrap_ddp(network: nn.Module, device: Device) -> nn.Module:
    """Wraps a network so that the gradients of its trainable parameters are averaged over the ranks."""
    if get_world_size() == 1:
        return network
    gc.collect()  # an earlier wrapper would average the gradients too while it exists
    # BatchNorm has the same statistics in all ranks, and no other layer of timm's networks changes a buffer
    return DistributedDataParallel(
        network, device_ids=device.ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def disable_gradient_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Inside, the gradients of a network of `wrap_ddp` accumulate and are not averaged."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def sync_batch_norm(device: Device) -> AbstractContextManager[object]:
    """Inside, BatchNorm in training uses mean and variance over all ranks; for CPUs."""
    return _SyncBatchNormMode() if get_world_size() > 1 and device.name == "cpu" else nullcontext()


class _SyncBatchNormMode(TorchFunctionMode):
    """Replaces `functional.batch_norm`: torch has no SyncBatchNorm for CPUs.

    Without it, two CPU ranks would not have the losses of one process with a BatchNorm network.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm:
            return _normalize_over_ranks(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _normalize_over_ranks(
    images: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """`functional.batch_norm` with the statistics of the batches of all ranks."""
    if not training:
        return functional.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
    values = images.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    count = torch.tensor([values.numel() / values.shape[1]])
    sums = across.all_reduce(torch.cat([values.sum(axes), count]))
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

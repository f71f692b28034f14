"""What torch says when memory is short, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.core.errors import TrainingError
from ffdi.training.runtime.device import Device


@contextmanager
def explain_oom(config: Config, device: Device) -> Iterator[None]:
    """Turns such errors of what happens inside into ffdi's.

    Raises:
        TrainingError: the device has not enough memory; says which batch size to try.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not machine.is_memory_error(error):
            raise
        raise _too_large(config, device) from None


def _too_large(config: Config, device: Device) -> TrainingError:
    size, parts = config.train.batch_size, config.train.micro_batches
    in_parts = f" in {parts} parts" if parts > 1 else ""
    return TrainingError(
        f"{device.name} has not the memory for {config.model.backbone} at {config.model.size} px in batches of {size}"
        f"{in_parts}",
        hint=f"set train.micro_batches = {2 * parts}, or train.batch_size = {size // 2}, in config.toml"
        if size > parts
        else "set a smaller model.size or another model.backbone in config.toml",
    )

"""What a trained fold's result depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ffdi.config.schema import Config
from ffdi.core import hashes


@dataclass(frozen=True)
class Identity:
    """What a fold's result depends on.

    Attributes:
        config: `Config.identity`.
        data: the digest of the roster of training images: names, labels, groups and bytes.
    """

    config: dict[str, Any]
    data: str

    @classmethod
    def of(cls, config: Config, weights_sha256: str | None, data: str) -> Identity:
        """From a config, the hash of its weights file and the digest of the training images."""
        return cls(config.identity(weights_sha256), data)

    @property
    def digest(self) -> str:
        """A hash of both."""
        return hashes.digest(asdict(self))

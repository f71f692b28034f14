"""Experiments that stand for several: config.toml with a [blend]."""

from __future__ import annotations

from collections.abc import Sequence

from ffdi import config, variants
from ffdi.errors import ConfigError
from ffdi.store.workspace import Workspace


def spread(workspace: Workspace, names: Sequence[str], name: str | None = None) -> tuple[list[str], str | None]:
    """The experiments that are meant, and what their export is called.

    Args:
        workspace: where variants are made that are not there yet.
        names: as a person gave them; a list of experiments stands for each of them in every variant of its grid.
        name: what a person calls the export; None calls that of one list as the list.

    Raises:
        ConfigError: a list names another list, or what is no experiment; an experiment is named twice.
    """
    found: list[str] = []
    for one in names:
        experiment = workspace.experiment(one)
        blend = config.read(experiment.config_path).blend
        if not blend.experiments:
            found.append(one)
            continue
        if len(names) == 1:
            name = name or experiment.name
        for word in blend.experiments:
            base = workspace.experiment(word)
            if config.read(base.config_path).blend.experiments:
                raise ConfigError(
                    f"{experiment.config_path} lists {word}, which is a list itself",
                    hint=f"put what {word} lists in its place",
                )
            made = [workspace.variant(base, keys).name for keys in variants.combinations(blend.grid)]
            found += made if blend.grid else [word]
    meant = [workspace.experiment(one).name for one in found]
    if len(set(meant)) < len(meant):
        raise ConfigError(f"an experiment is named twice: {', '.join(meant)}", hint="name each one once")
    return found, name

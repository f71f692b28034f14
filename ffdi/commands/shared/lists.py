"""Experiments that stand for several: config.toml with a [group]."""

from __future__ import annotations

from collections.abc import Sequence

from ffdi.config import schema, variants
from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


def resolve_experiments(
    workspace: Workspace, names: Sequence[str], name: str | None = None
) -> tuple[list[str], str | None]:
    """The experiments that are meant, and what their export is called; nothing is written.

    Args:
        workspace: where they lie; a name that it does not have stands for itself.
        names: as a person gave them; a list of experiments stands for each of them in every variant of its grid.
        name: what a person calls the export; None calls that of one list as the list.

    Raises:
        ConfigError: a list names another list, or what is no experiment; an experiment is named twice.
    """
    found: list[str] = []
    for one in names:
        listed = _listed(workspace, one)
        if listed is None:
            found.append(one)
            continue
        if len(names) == 1:
            name = name or _folder_name(workspace, one)
        found += [variants.name(base.name, keys) if keys else word for word, base, keys in listed]
    meant = [_folder_name(workspace, one) for one in found]
    if len(set(meant)) < len(meant):
        raise ConfigError(f"an experiment is named twice: {', '.join(meant)}", hint="name each one once")
    return found, name


def make_listed_experiments(workspace: Workspace, names: Sequence[str]) -> None:
    """Writes the variants of lists that are not there yet, once all that they list is known to be right.

    Raises:
        ConfigError: a key is unknown or does not take its value, in any variant; one was changed by hand; or what a
            list names cannot be one ensemble.
    """
    from ffdi.commands.shared import planning
    from ffdi.ensemble import group

    listed = [(found, _listed(workspace, one)) for one in names if (found := workspace.found(one)) is not None]
    for found, entries in listed:
        if entries:
            hint = f"correct [group.grid] in {found.config_path}"
            group.check_agreement(
                [
                    planning.make_variant(base, keys, hint) if keys else schema.load(base.config_path)
                    for _, base, keys in entries
                ]
            )
    for _, entries in listed:
        for _, base, keys in entries or ():
            if keys:
                workspace.variant(base, keys)


def _listed(workspace: Workspace, name: str) -> list[tuple[str, Experiment, Keys]] | None:
    """What a list names, with what differs in each variant; None where it is no list."""
    found = workspace.found(name)
    if found is None or not (section := schema.read(found.config_path).group).members:
        return None
    listed: list[tuple[str, Experiment, Keys]] = []
    for word in section.members:
        base = workspace.found(word) or workspace.experiment(word)
        if schema.read(base.config_path).group.members:
            raise ConfigError(
                f"{found.config_path} lists {word}, which is a list itself",
                hint=f"put what {word} lists in its place",
            )
        listed += [(word, base, keys) for keys in variants.combinations(section.grid)]
    return listed


def _folder_name(workspace: Workspace, name: str) -> str:
    found = workspace.found(name)
    return name if found is None else found.name

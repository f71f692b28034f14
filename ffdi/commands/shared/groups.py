"""Groups: a config.toml with [group] members is a name for several experiments."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ffdi.config import schema, variants
from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


def resolve_experiments(
    workspace: Workspace, names: Sequence[str], name: str | None = None
) -> tuple[list[str], str | None]:
    """Replaces groups by their experiments; writes nothing.

    Args:
        workspace: the workspace; a name that it lacks stays as it is.
        names: the values of --experiment; a group becomes all its members in every variant of its grid.
        name: the value of --name; None: the export of a single group has the name of the group.

    Returns:
        The experiments, and the name of their export.

    Raises:
        ConfigError: a member of a group is a group or does not exist; or an experiment is named twice.
    """
    found: list[str] = []
    for one in names:
        members = _read_group(workspace, one)
        if members is None:
            found.append(one)
            continue
        if len(names) == 1:
            name = name or _folder_name(workspace, one)
        found += [variants.name_variant(base.name, keys) if keys else word for word, base, keys in members]
    folders = [_folder_name(workspace, one) for one in found]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"an experiment is named twice: {', '.join(folders)}", hint="name each one once")
    return found, name


def repeat_flags(names: Sequence[str], name: str | None) -> str:
    """The flags for the same experiments, and for the same export if `name` is given, after a space."""
    flags = "".join(f" --experiment {shlex.quote(one)}" for one in names)
    return f"{flags} --name {shlex.quote(name)}" if name else flags


def write_group_variants(workspace: Workspace, names: Sequence[str]) -> None:
    """Writes the missing variants of groups, after a check of all of them.

    Raises:
        ConfigError: a key of a variant is unknown or does not accept its value; a variant was changed by hand; or the
            members of a group do not fit into one ensemble.
    """
    from ffdi.commands.shared import planning
    from ffdi.ensemble import ensemble

    read = [
        (found, _read_group(workspace, one)) for one in names if (found := workspace.find_experiment(one)) is not None
    ]
    for found, entries in read:
        if entries:
            hint = f"correct [group.grid] in {found.config_path}"
            ensemble.check_agreement(
                [
                    planning.make_variant(base, keys, hint) if keys else schema.load_experiment(base.config_path)
                    for _, base, keys in entries
                ]
            )
    for _, entries in read:
        for _, base, keys in entries or ():
            if keys:
                workspace.create_variant(base, keys)


def is_several(workspace: Workspace, names: Sequence[str]) -> bool:
    """Whether names are those of several experiments, or of a group."""
    return len(names) > 1 or _read_group(workspace, names[0]) is not None


def has_variants(workspace: Workspace, names: Sequence[str]) -> bool:
    """Whether one of the names is a group with a grid, whose experiments ffdi has written."""
    return any(keys for one in names for _, _, keys in _read_group(workspace, one) or ())


def _read_group(workspace: Workspace, name: str) -> list[tuple[str, Experiment, Keys]] | None:
    """The members of a group: the name, its experiment, and the keys of the variant; None for an experiment."""
    found = workspace.find_experiment(name)
    if found is None or not (section := schema.load_config(found.config_path).group).members:
        return None
    members: list[tuple[str, Experiment, Keys]] = []
    for word in section.members:
        base = workspace.find_experiment(word) or workspace.get_experiment(word)
        if schema.load_config(base.config_path).group.members:
            raise ConfigError(
                f"{found.config_path} has the member {word}, which is a group itself",
                hint=f"replace {word} by its members",
            )
        members += [(word, base, keys) for keys in variants.expand_grid(section.grid)]
    return members


def _folder_name(workspace: Workspace, name: str) -> str:
    found = workspace.find_experiment(name)
    return name if found is None else found.name

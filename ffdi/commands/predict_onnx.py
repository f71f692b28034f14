"""Scores images with an exported graph."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi import __version__
from ffdi.commands.shared import lists, scorers, screens, sources
from ffdi.commands.shared.engines import Engine
from ffdi.core import console, files, hashes, links, machine, manifests
from ffdi.core.errors import ConfigError, DataError, ExperimentError, ParityError
from ffdi.core.names import find_fault
from ffdi.experiments import lock
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.data.labels.table import Table
    from ffdi.inference.predict import Score
    from ffdi.inference.shards import Shards


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    images: str | None,
    data: str | None,
    split: str,
    output: str | None,
    device: str,
    engine: Engine,
    name: str | None,
    on_error: str,
) -> None:
    """Scores images with an exported graph, without torch."""
    from ffdi.inference import bundle, select, shards
    from ffdi.inference.predict import Task

    engine.check()
    substitute = _substitute(on_error)
    flags = screens.repeat_flags(names, name)
    names, name = lists.resolve_experiments(workspace, names, name)
    export = workspace.export(names, name)
    described = scorers.describe_graph(workspace, export)
    model = described["files"][export.model_path.name]
    table = sources.images(workspace, names, images, data, split)
    _check_name(output)
    path = _place(Path(output)) if output else export.scores_path
    record_path = links.below(path.parent, path.with_suffix(".json").name)
    files.check_writable(path)
    _check_own(shards.parts_of(path))
    console.title(f"predict-onnx {export.name}: {len(table)} images from {table.folder}")
    task = Task(
        export.model_path, select.make_proof(export, described, scorers.PROVEN), bundle.framing(described), table
    )
    with scorers.open_scorer(engine, task, select.reopen_graph(device, shards.begin_shards(path))) as scorer:
        console.say(f"runs on: {scorer.provider} ({scorer.why})")
        pieces = shards.Shards(path, table, f"{model} {scorer.runtime}", substitute)
        with lock.hold(pieces.folder, f"is scoring to {path}", "wait for it, or pass another --output"):
            files.remove_leftovers_beside(path, (path.name, record_path.name))
            pieces.begin(scorer.runtime)
            faults = _score(pieces, scorer.score, len(table))
            _check(faults, table, substitute)
            with files.publish_together(path.parent, path.name) as new:
                y_pred = pieces.join(new / path.name)
                record = {
                    "model": model,
                    "runtime": scorer.runtime,
                    "provider": scorer.provider,
                    "rows": len(table),
                    "sha256": hashes.sha256(new / path.name),
                    "cannot be used": {"score": substitute, "images": faults},
                    "version": __version__,
                }
                manifests.write_manifest(new / record_path.name, record)
            pieces.remove()
    if table.target is not None and table.both_classes:
        from ffdi.evaluation import scorecard  # which brings scipy

        screens.show_scores(
            f"exact score on the {table.split} split",
            [("ONNX", scorecard.score_without_intervals(table.target, y_pred))],
        )
    console.written(path, about=f" ({len(table)} rows)")
    console.advise(f"invoke {'serve' if images else 'report'}{flags}")


def selftest(workspace: Workspace, names: Sequence[str], *, device: str, name: str | None) -> None:
    """Asks each runtime of this machine, or the one that is named, for the golden scores."""
    from ffdi.inference import select

    export = workspace.export(*lists.resolve_experiments(workspace, names, name))
    described = scorers.describe_graph(workspace, export)
    proof = select.make_proof(export, described)
    console.title(f"selftest of {export.name}: {len(proof.golden.names)} golden images")
    passed = 0
    for verdict in select.examine_graph(export.model_path, device, machine.cores(), proof):
        passed += not verdict.fault
        said = verdict.fault or (
            f"passed: largest difference {verdict.difference:.1e}, at most {proof.limit(verdict.runtime):.1e}; "
            f"{verdict.provider}"
        )
        console.say(f"{verdict.runtime}: {said}")
    if not passed:
        raise ParityError("no runtime that was asked gives this export's scores here", hint="export again here")


def _place(output: Path) -> Path:
    """Where scores are written to: the folder may be reached through links, the file is none."""
    return links.root(output) if output.is_dir() else links.below(links.root(output.parent), output.name)


def _check_own(folder: Path) -> None:
    """Refuses what is kept of an earlier run where another user may have made it.

    Raises:
        ExperimentError: the folder is not this user's, or holds a link.
    """
    if folder.exists() and not files.is_own(folder):
        raise ExperimentError(f"{folder} belongs to another user", hint="remove it, or pass another --output")
    links.check_path(folder)


def _check_name(output: str | None) -> None:
    """Refuses an --output whose name is not that of a CSV; beside it a .json says what really ran."""
    if output is None:
        return
    if Path(output).suffix == ".json":
        raise ConfigError(f"--output {output}: scores are a CSV", hint="pass --output scores.csv")
    if said := find_fault(Path(output).name):
        raise ConfigError(f"--output {output}: its name {said}", hint="pass --output scores.csv")


def _substitute(on_error: str) -> float | None:
    """The score of an image that cannot be used, from 'stop' or 'score=0.5'."""
    if on_error == "stop":
        return None
    word, _, number = on_error.partition("=")
    with suppress(ValueError):
        if word == "score" and 0 <= float(number) <= 1:
            return float(number)
    raise ConfigError(
        f"--on-error {on_error}: neither stop nor a score from 0 to 1",
        hint="pass --on-error score=0.5, or leave it out",
    )


def _score(pieces: Shards, score: Score, images: int) -> list[str]:
    """Scores and publishes what is missing; gives a line for each image that cannot be used."""
    faults: list[str] = []
    kept, start = 0, time.perf_counter()
    with console.bar("scoring", images, unit="images") as bar:
        for part in pieces.score(score):
            faults += part.faults
            kept += len(part.rows) - len(part.y_pred)
            bar.advance(len(part.rows))
    seconds, scored = time.perf_counter() - start, images - kept
    kept_before = f"; {kept} were scored before" if kept else ""
    console.say(f"scored: {scored} images in {seconds:.1f} s, {scored / seconds:.1f} images/s{kept_before}")
    return faults


def _check(faults: list[str], table: Table, substitute: float | None) -> None:
    """Refuses a result with images that cannot be used, or says what they were given."""
    if not faults:
        return
    what = f"{len(faults)} of {len(table)} images cannot be used"
    if substitute is None:
        raise DataError(
            f"{what}; no result was written, what was scored is kept",
            problems=faults,
            hint=f"replace these files or take them out of {table.source}, and run the same command again; or add "
            "--on-error score=0.5",
        )
    console.warn(f"{what} and were given {substitute:g}:", faults)

"""Scores images with an exported graph."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi import __version__
from ffdi.commands.shared import engines, groups, score_tables, scorers, sources
from ffdi.commands.shared.options import PredictOnnxOptions
from ffdi.core import console, files, links, machine, manifests
from ffdi.core.errors import ConfigError, DataError, ExperimentError, ParityError, format_count
from ffdi.core.names import find_fault
from ffdi.evaluation import score_names
from ffdi.experiments import experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.data.labels.table import Table
    from ffdi.inference.predict import Score, Shards


def run(workspace: Workspace, options: PredictOnnxOptions) -> None:
    """Scores images with an exported graph, without torch."""
    if options.selftest:
        _selftest(workspace, options)
        return
    from ffdi.inference import bundle, predict, select
    from ffdi.inference.predict import Task

    engines.check_engine(options)
    substitute = _parse_on_error(options.on_error)
    names, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    flags = groups.repeat_flags(options.experiment, options.name)
    export = workspace.get_export(names, name)
    described = scorers.describe_graph(workspace, export)
    model = described["files"][export.model_path.name]
    table = sources.find_images(workspace, names, options)
    _check_output(options.output)
    path = _resolve_output(Path(options.output)) if options.output else export.scores_path
    record_path = links.join(path.parent, path.with_suffix(".json").name)
    files.check_writable(path)
    _check_own(predict.get_shards_folder(path))
    console.title(f"predict-onnx {export.name}: {format_count(len(table), 'image')} from {table.folder}")
    task = Task(
        export.model_path,
        select.make_proof(export, described, workspace.engines_folder, scorers.PROVEN),
        bundle.read_resize_policy(described),
        table,
    )
    device = select.choose_device(options.device, predict.read_started_runtime(path))
    with scorers.open_scorer(options, task, device) as scorer:
        console.say(f"runs on: {scorer.provider} ({scorer.why})")
        shards = predict.Shards(path, table, f"{model} {scorer.device}", substitute)
        with experiment.lock_folder(shards.folder, f"is scoring to {path}", "wait for it, or pass another --output"):
            files.remove_leftovers_next_to(path, (path.name, record_path.name))
            shards.start(scorer.device)
            faults = _score(shards, scorer.score, len(table))
            _check_faults(faults, table, substitute)
            with files.publish_together(path.parent, path.name) as new:
                y_pred = shards.join(new / path.name)
                record = {
                    "model": model,
                    "runtime": scorer.device,
                    "provider": scorer.provider,
                    "rows": len(table),
                    "sha256": manifests.hash_file(new / path.name),
                    "cannot be used": {"score": substitute, "images": faults},
                    "version": __version__,
                }
                manifests.write_manifest(new / record_path.name, record)
            shards.remove()
    if table.target is not None and table.has_both_classes:
        from ffdi.evaluation import scorecard  # it imports scipy

        score_tables.show_scores(
            f"scores on the {table.split} split",
            [(score_names.ENSEMBLE, scorecard.score_without_intervals(table.target, y_pred))],
        )
    console.written(path, about=f" ({format_count(len(table), 'row')})")
    console.advise(f"invoke {'serve' if options.images else 'report'}{flags}")


def _selftest(workspace: Workspace, options: PredictOnnxOptions) -> None:
    """Compares each runtime of this machine, or the runtime of --device, with the golden scores."""
    from ffdi.inference import select

    export = workspace.get_export(*groups.resolve_experiments(workspace, options.experiment, options.name))
    described = scorers.describe_graph(workspace, export)
    proof = select.make_proof(export, described, workspace.engines_folder)
    console.title(f"selftest of {export.name}: {format_count(len(proof.golden.names), 'golden image')}")
    passed = 0
    for verdict in select.measure_runtimes(export.model_path, options.device, machine.count_cores(), proof):
        passed += not verdict.fault
        result = verdict.fault or (
            f"passed: largest difference {verdict.difference:.1e}, at most {proof.get_limit(verdict.runtime):.1e}; "
            f"{verdict.provider}"
        )
        console.say(f"{verdict.runtime}: {result}")
    if not passed:
        raise ParityError("no tested runtime gives this export's scores on this machine", hint="export again here")


def _resolve_output(output: Path) -> Path:
    """The path of --output: links in its folder are followed, the file must not be a link."""
    return links.resolve_root(output) if output.is_dir() else links.join(links.resolve_root(output.parent), output.name)


def _check_own(folder: Path) -> None:
    """Refuses the saved scores of an interrupted run if another user may have written them.

    Raises:
        ExperimentError: the folder belongs to another user, or has a link.
    """
    if folder.exists() and not files.is_own(folder):
        raise ExperimentError(f"{folder} belongs to another user", hint="remove it, or pass another --output")
    links.refuse_links_below(folder)


def _check_output(output: str | None) -> None:
    """Refuses an --output with the name of the record, scores.json, or with a name that a CSV cannot have."""
    if output is None:
        return
    if Path(output).suffix == ".json":
        raise ConfigError(f"--output {output}: scores are a CSV", hint="pass --output scores.csv")
    if fault := find_fault(Path(output).name):
        raise ConfigError(f"--output {output}: its name {fault}", hint="pass --output scores.csv")


def _parse_on_error(on_error: str) -> float | None:
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


def _score(shards: Shards, score: Score, images: int) -> list[str]:
    """Scores the remaining images; returns a line for each image that cannot be used."""
    faults: list[str] = []
    restored, start = 0, time.perf_counter()
    with console.bar("scoring", images, unit="images") as bar:
        for part in shards.score(score):
            faults += part.faults
            restored += len(part.rows) - len(part.y_pred)
            bar.advance(len(part.rows))
    seconds, scored = time.perf_counter() - start, images - restored
    before = f"; scored before: {restored}" if restored else ""
    console.say(f"scored: {format_count(scored, 'image')} in {seconds:.1f} s, {scored / seconds:.1f} images/s{before}")
    return faults


def _check_faults(faults: list[str], table: Table, substitute: float | None) -> None:
    """Refuses images that cannot be used, or warns that they have the score of --on-error."""
    if not faults:
        return
    what = f"{len(faults)} of {format_count(len(table), 'image')} cannot be used"
    if substitute is None:
        raise DataError(
            f"{what}; no result was written; the scores so far are saved",
            problems=faults,
            hint=f"replace these files or take them out of {table.source}, and run the same command again; or add "
            "--on-error score=0.5",
        )
    console.warn(f"{what} and were given {substitute:g}:", faults)

"""Sends a submission to Kaggle, once the gate in front of it is passed, and writes down what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ffdi import __version__
from ffdi.commands.shared import lists, screens
from ffdi.config import renamed
from ffdi.core import console, files, hashes, manifests
from ffdi.core.errors import ConfigError, SubmissionError
from ffdi.ensemble.group import Ensemble
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.submission import kaggle

UNKNOWN = "sent; the answer was not heard"
"""What is written down before the file is sent, and stands there until an answer is."""
WAIT = 300
"""Seconds to wait for a score where a person does not say."""


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    competition: str,
    message: str | None,
    name: str | None,
    allow_duplicate: bool,
    wait: int | None,
    dry_run: bool,
) -> None:
    """Sends exports/<name>/submission.csv to a Kaggle competition, and keeps the answer in submissions.json.

    Raises:
        ConfigError: no competition is named, or there is no command line of Kaggle.
        ExperimentError: there is no submission, or it is not the one that passed the gate.
        SubmissionError: other networks are there by now than those that it is of; the same bytes were sent before; or
            Kaggle did not take it.
    """
    if not competition:
        raise ConfigError("no competition is named", hint="pass --competition, as in its address on Kaggle")
    kaggle.check(competition, message or "")
    members, name = lists.resolve_experiments(workspace, names, name)
    export = workspace.export(members, name)
    ensemble = Ensemble.of([workspace.experiment(one) for one in members])
    flags = screens.repeat_flags(names, name)
    record = _passed(export, ensemble, f"invoke ensemble-submit{flags}")
    message = message or _message(export, record, ensemble)
    with export.locked():
        sent = _sent(export)
        _check_new(sent, competition, record["sha256"], allow_duplicate)
        console.title(f"submit {export.name}: {record['rows']} {record['split']} images to {competition}")
        for warning in record["warnings"]:
            console.warn(warning)
        console.say(f"message: {message}")
        if dry_run:
            kaggle.program()
            console.say("nothing was sent: --dry-run")
            return
        files.check_writable(export.sent_path)
        entry = {
            "competition": competition,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": record["sha256"],
            "message": message,
            "answer": UNKNOWN,
            "taken": True,
        }
        kaggle.program()
        _keep(export, [*sent, entry])  # before it is sent: whoever is killed from here on knows that it may have been
        answer = kaggle.submit(competition, export.submission_path, message, WAIT if wait is None else wait)
        entry |= {"answer": answer.words, "taken": answer.taken, "ref": answer.ref}
        if answer.ref and (found := kaggle.verdict(competition, answer.ref)):
            entry |= {"status": found.status, "public_score": found.public, "private_score": found.private}
        _keep(export, [*sent, entry])
    _tell(export, entry, competition)


def _passed(export: ExportFolder, ensemble: Ensemble, make: str) -> dict[str, Any]:
    """The record of a submission that passed the gate, is unchanged since, and is of the networks that are there."""
    if not export.submission_record_path.is_file():
        raise SubmissionError(f"{export.submission_record_path} does not exist: there is no submission", hint=make)
    kinds = {"sha256": str, "rows": int, "split": str, "members": list, "warnings": list}
    record = manifests.read_manifest(export.submission_record_path, kinds)
    hashes.check_hash(export.submission_path, record["sha256"], export.submission_record_path, make)
    made_of = [one["weights_sha256"] for one in record["members"]]
    if made_of != [member.folder.weights_sha256() for member in ensemble.members]:
        raise SubmissionError(
            f"{export.submission_path} is of other networks than those that are there now: they were trained anew",
            hint=make,
        )
    return record


def _message(export: ExportFolder, record: dict[str, Any], ensemble: Ensemble) -> str:
    """What tells this submission from others."""
    aucs = ", ".join(f"{one} OOF AUC {auc:.4f}" for one, auc in ensemble.oof_auc().items())
    return f"{export.name}: {aucs}; {len(ensemble.members)} networks; ffdi {__version__}; {record['sha256'][:12]}"


def _sent(export: ExportFolder) -> list[dict[str, Any]]:
    """All that was sent from this export before."""
    renamed.refuse_files(export.folder)
    if not export.sent_path.is_file():
        return []
    return list(manifests.read_manifest(export.sent_path, {"sent": list})["sent"])


def _check_new(sent: Sequence[dict[str, Any]], competition: str, sha256: str, allow_duplicate: bool) -> None:
    """Refuses the same bytes a second time: Kaggle would give the same score, and take one of the day's attempts."""
    same = [one for one in sent if (one["competition"], one["sha256"]) == (competition, sha256)]
    same = [one for one in same if one["taken"]]
    if same and not allow_duplicate:
        raise SubmissionError(
            f"the same scores were sent to {competition} before, {same[-1]['time']}",
            problems=same[-1]["answer"].splitlines(),
            hint="train or combine something else; or pass --allow-duplicate to spend another submission on them",
        )


def _keep(export: ExportFolder, sent: list[dict[str, Any]]) -> None:
    manifests.write_manifest(export.sent_path, {"sent": sent, "version": __version__})


def _tell(export: ExportFolder, entry: dict[str, Any], competition: str) -> None:
    if not entry["taken"] or entry.get("status") == kaggle.FAILED:
        raise SubmissionError(
            f"kaggle did not {'score' if entry['taken'] else 'take'} {export.submission_path}",
            problems=entry["answer"].splitlines(),
            hint=f"mend that; kaggle competitions submissions {competition} shows what has arrived",
        )
    for line in entry["answer"].splitlines():
        console.say(f"kaggle: {line}")
    console.written(export.sent_path)
    if entry.get("public_score"):
        console.say(f"public score: {entry['public_score']}")
    else:
        console.advise(f"kaggle competitions submissions {competition}")

"""Sends a checked submission to Kaggle, and records the answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ffdi import __version__
from ffdi.commands.shared import groups
from ffdi.commands.shared.options import SubmitOptions
from ffdi.config import renames
from ffdi.core import console, files, links, manifests
from ffdi.core.errors import ConfigError, SubmissionError, format_count
from ffdi.ensemble.ensemble import Ensemble
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.submission import kaggle

UNKNOWN = "sent; the answer was not received"
"""The recorded answer until Kaggle answers."""


def run(workspace: Workspace, options: SubmitOptions) -> None:
    """Sends exports/<name>/submission.csv to a Kaggle competition, and records the answer in submissions.json.

    Raises:
        ConfigError: --competition is missing, or the Kaggle command line is not installed.
        ExperimentError: the submission is missing, or was changed after its check.
        SubmissionError: the networks were trained again after the submission; the same file was sent before; or Kaggle
            rejected it.
    """
    competition = options.competition
    if not competition:
        raise ConfigError("--competition is missing", hint="pass --competition NAME, the name in its address on Kaggle")
    kaggle.check_arguments(competition, options.message or "", options.kernel, options.kernel_version)
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    export = workspace.get_export(members, name)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(one) for one in members])
    flags = groups.repeat_flags(options.experiment, name)
    record = _read_record(export, ensemble, f"invoke ensemble-submit{flags}")
    message = options.message or _make_message(export, record, ensemble)
    template = _compare_template(record["template"], f"invoke ensemble-submit{flags}")
    with export.lock():
        sent = _read_sent(export)
        _check_new(sent, competition, record["sha256"], options.allow_duplicate)
        console.title(
            f"submit {export.name}: {format_count(record['rows'], record['split'] + ' image')} to {competition}"
        )
        for warning in record["warnings"]:
            console.warn(warning)
        console.say(f"template: {template}")
        console.say(f"message: {message}")
        if options.dry_run:
            kaggle.find_program()
            console.say("nothing was sent: --dry-run")
            return
        files.check_writable(export.submissions_path)
        entry = {
            "competition": competition,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": record["sha256"],
            "message": message,
            "members": [one.name for one in ensemble.experiments],
            "answer": UNKNOWN,
            "taken": True,
        }
        kaggle.find_program()
        _record(export, [*sent, entry])  # before it is sent: a process that is killed from here on may have sent it
        upload = kaggle.Upload(
            links.join(export.folder, next(iter(record["to_send"]))), options.kernel, options.kernel_version
        )
        answer = kaggle.submit(competition, upload, message, options.wait)
        entry |= {"answer": answer.output, "taken": answer.is_accepted, "ref": answer.ref}
        if answer.ref and (found := kaggle.fetch_verdict(competition, answer.ref)):
            entry |= {"status": found.status, "public_score": found.public, "private_score": found.private}
        _record(export, [*sent, entry])
    _show_answer(export, entry, competition)


def _read_record(export: ExportFolder, ensemble: Ensemble, make: str) -> dict[str, Any]:
    """Reads the record of a submission, and checks that the file and the networks are unchanged."""
    if not export.submission_record_path.is_file():
        raise SubmissionError(f"{export.submission_record_path} does not exist: there is no submission", hint=make)
    kinds = {"sha256": str, "to_send": dict, "rows": int, "split": str, "members": list, "warnings": list}
    record = manifests.read_manifest(export.submission_record_path, kinds)
    for name, sha256 in {export.submission_path.name: record["sha256"], **record["to_send"]}.items():
        manifests.check_hash(links.join(export.folder, name), sha256, export.submission_record_path, make)
    made_of = [one["weights_sha256"] for one in record["members"]]
    if made_of != [member.folder.read_weights_sha256() for member in ensemble.members]:
        raise SubmissionError(
            f"{export.submission_path} was made with networks that were trained again since",
            hint=make,
        )
    return record


def _compare_template(template: dict[str, str] | None, make: str) -> str:
    """What the submission was compared with.

    Raises:
        SubmissionError: the template has changed since the submission was checked against it.
    """
    if template is None:
        return "there is none; the rows are those of the image list"
    path = Path(template["path"])
    if not path.is_file():
        return f"the rows were those of {path}, which is not on this machine now"
    if manifests.hash_file(path) != template["sha256"]:
        raise SubmissionError(f"the template {path} has changed since the submission was written", hint=make)
    return f"the rows and the header are those of {path}"


def _make_message(export: ExportFolder, record: dict[str, Any], ensemble: Ensemble) -> str:
    """The default message: it identifies this submission."""
    networks = format_count(len(ensemble.members), "network")
    return f"{export.name}: {ensemble.describe_oof_scores()}; {networks}; ffdi {__version__}; {record['sha256'][:12]}"


def _read_sent(export: ExportFolder) -> list[dict[str, Any]]:
    renames.refuse_files(export.folder)
    return export.read_sent()


def _check_new(sent: Sequence[dict[str, Any]], competition: str, sha256: str, allow_duplicate: bool) -> None:
    """Refuses the same file a second time: Kaggle would give the same score, and count a submission of the day."""
    same = [one for one in sent if (one["competition"], one["sha256"]) == (competition, sha256)]
    same = [one for one in same if one["taken"]]
    if same and not allow_duplicate:
        raise SubmissionError(
            f"the same scores were sent to {competition} before, {same[-1]['time']}",
            problems=same[-1]["answer"].splitlines(),
            hint="train or combine something else; or pass --allow-duplicate to spend another submission on them",
        )


def _record(export: ExportFolder, sent: list[dict[str, Any]]) -> None:
    manifests.write_manifest(export.submissions_path, {"sent": sent, "version": __version__})


def _show_answer(export: ExportFolder, entry: dict[str, Any], competition: str) -> None:
    if not entry["taken"] or entry.get("status") == kaggle.FAILED:
        raise SubmissionError(
            f"kaggle did not {'score' if entry['taken'] else 'take'} {export.submission_path}",
            problems=entry["answer"].splitlines(),
            hint=f"correct that; kaggle competitions submissions {competition} shows the received submissions",
        )
    for line in entry["answer"].splitlines():
        console.say(f"kaggle: {line}")
    console.written(export.submissions_path)
    if entry.get("public_score"):
        console.say(f"public score: {entry['public_score']}")
    else:
        console.advise(f"kaggle competitions submissions {competition}")

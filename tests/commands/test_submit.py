"""Sending a submission: by a stand-in for Kaggle's command line, and by the true one without an account."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from ffdi.core import manifests
from ffdi.core.errors import ConfigError
from ffdi.submission import kaggle as command
from tests.conftest import Invoke

STAND_IN = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + chr(10))
if sys.argv[2] == "submit":
    print((here / "output.txt").read_text(), end="")
    print((here / "errors.txt").read_text(), end="", file=sys.stderr)
    raise SystemExit(int((here / "code.txt").read_text()))
print((here / "listed.csv").read_text(), end="")
"""
LISTED = "ref,fileName,date,description,status,publicScore,privateScore\n"
SUBMIT = ("submit", "--experiment", "tiny", "--competition", "faces")


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in that prints a given answer, and records its arguments."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    (folder / "kaggle.py").write_text(STAND_IN)
    (folder / "kaggle").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "kaggle.py"}" "$@"\n')
    (folder / "kaggle").chmod(0o755)
    set_answer(folder, "100%|####| 1.2k/1.2k\nSubmission ref: 4711\n3 submissions remaining today.\n")
    (folder / "listed.csv").write_text(f"{LISTED}4710,a.csv,,,S.COMPLETE,0.1,\n4711,a.csv,,,S.COMPLETE,0.98765,\n")
    monkeypatch.setattr(command, "find_program", lambda: str(folder / "kaggle"))
    return folder


def set_answer(folder: Path, words: str, errors: str = "", code: int = 0) -> None:
    """Sets the stand-in's answer to a submission."""
    for name, text in (("output.txt", words), ("errors.txt", errors), ("code.txt", str(code))):
        (folder / name).write_text(text)


def read_calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_it_is_sent_once_and_the_answer_is_kept(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    exports = copy / "exports" / "tiny"
    answer = invoke(*SUBMIT)
    record = json.loads((exports / "submission.json").read_text())
    auc = json.loads((copy / "experiments/tiny/metrics.json").read_text())["pooled"]["auc"]
    version, digest = record["version"], record["sha256"]
    message = f"tiny: AUC tiny {auc:.4f} (OOF, pooled); 2 networks; ffdi {version}; {digest[:12]}"
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        "submit tiny: 20 test images to faces",
        *(f"warning: {what}" for what in record["warnings"]),
        "template: there is none; the rows are those of the image list",
        f"message: {message}",
        "kaggle: Submission ref: 4711",
        "kaggle: 3 submissions remaining today.",
        f"written: {exports / 'submissions.json'}",
        "public score: 0.98765",
    ]
    path = str(exports / "submission.csv")
    assert read_calls(kaggle) == [
        ["competitions", "submit", "faces", "-f", path, f"--message={message}", "--wait", "300"],
        ["competitions", "submissions", "faces", "--csv", "--quiet"],
    ]
    (sent,) = manifests.read_manifest(exports / "submissions.json")["sent"]
    assert {key: sent[key] for key in ("competition", "sha256", "ref", "status", "public_score", "private_score")} == {
        **{"competition": "faces", "sha256": digest, "ref": "4711", "status": "COMPLETE"},
        **{"public_score": "0.98765", "private_score": ""},
    }
    again = invoke(*SUBMIT)
    assert (again.code, again.out, again.err) == (
        1,
        "",
        f"error: the same scores were sent to faces before, {sent['time']}\n"
        "  Submission ref: 4711\n"
        "  3 submissions remaining today.\n"
        "next: train or combine something else; or pass --allow-duplicate to spend another submission on them\n",
    )
    assert len(read_calls(kaggle)) == 2
    assert invoke(*SUBMIT, "--allow-duplicate", "--wait", "0", "--message", "second").code == 0
    assert read_calls(kaggle)[2] == ["competitions", "submit", "faces", "-f", path, "--message=second"]
    assert [one["message"] for one in manifests.read_manifest(exports / "submissions.json")["sent"]] == [
        message,
        "second",
    ]
    assert invoke("verify", "--experiment", "tiny").code == 0


def test_a_dry_run_sends_nothing(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    answer = invoke(*SUBMIT, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("\nnothing was sent: --dry-run\n")
    assert not (kaggle / "calls.jsonl").exists()
    assert not (copy / "exports" / "tiny" / "submissions.json").exists()


def test_what_kaggle_does_not_take_may_be_sent_again(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    set_answer(kaggle, "", "Could not find competition - please verify\n  Error: 404\n", 1)
    answer = invoke(*SUBMIT)
    path = copy / "exports" / "tiny" / "submission.csv"
    assert (answer.code, answer.err) == (
        1,
        f"error: kaggle did not take {path}\n"
        "  Could not find competition - please verify\n"
        "  Error: 404\n"
        "next: correct that; kaggle competitions submissions faces shows the received submissions\n",
    )
    set_answer(kaggle, "Submission ref: 4712\n", "Timed out after 300s waiting for submission 4712\n", 1)
    answer = invoke(*SUBMIT)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("next: kaggle competitions submissions faces\n")  # it arrived, and has no score yet
    assert [one["taken"] for one in manifests.read_manifest(path.with_name("submissions.json"))["sent"]] == [
        False,
        True,
    ]


def test_what_kaggle_cannot_score_is_an_error(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    set_answer(kaggle, "Submission ref: 4711\n", "Submission 4711 failed to score.\n  Error: rows\n", 1)
    (kaggle / "listed.csv").write_text(f"{LISTED}4711,a.csv,,,S.ERROR,,\n")
    answer = invoke(*SUBMIT)
    assert answer.code == 1
    assert answer.err.startswith(f"error: kaggle did not score {copy / 'exports' / 'tiny' / 'submission.csv'}\n")
    assert "\n  Error: rows\n" in answer.err


def test_a_process_killed_while_sending_leaves_a_record(
    copy: Path, kaggle: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    assert kaggle.is_dir()
    with monkeypatch.context() as patched:
        patched.setattr(command, "submit", killed)
        assert invoke(*SUBMIT).code == 130
    answer = invoke(*SUBMIT)
    assert answer.code == 1
    assert "\n  sent; the answer was not received\n" in answer.err
    assert copy.is_dir()


def test_the_gate_stands_in_front(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    make = "next: invoke ensemble-submit --experiment tiny\n"
    answer = invoke("submit", "--experiment", "tiny")
    what = "error: --competition is missing\nnext: pass --competition NAME, the name in its address on Kaggle\n"
    assert (answer.code, answer.err) == (1, what)

    path = copy / "exports" / "tiny" / "submission.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"more.jpg,0.5\n")
    answer = invoke(*SUBMIT)
    what = f"error: {path} is damaged: its hash is not the one in submission.json\n"
    assert (answer.code, answer.err) == (1, what + make)

    path.with_name("submission.json").unlink()
    answer = invoke(*SUBMIT)
    what = f"error: {path.with_name('submission.json')} does not exist: there is no submission\n"
    assert (answer.code, answer.err) == (1, what + make)
    assert not (kaggle / "calls.jsonl").exists()


def test_the_template_must_be_the_one_that_was_checked(
    copy: Path, kaggle: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    data = shutil.copytree(competition, tmp_path / "data")
    names = [line.split(",")[0] for line in (data / "testset_nolabel.txt").read_text().splitlines()[1:]]
    template = data / "sample_submission.csv"
    template.write_text("id,label\n" + "".join(f"{Path(name).stem},0.5\n" for name in sorted(names, reverse=True)))
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(f"{config.read_text()}\n[submission]\nformat = 'zip'\ndecimals = 4\n")
    assert invoke("ensemble-submit", "--experiment", "tiny", "--data", str(data)).code == 0
    exports = copy / "exports" / "tiny"
    text = (exports / "submission.csv").read_text()
    assert text.startswith("id,label\n")
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == [
        Path(name).stem for name in sorted(names, reverse=True)
    ]
    assert all(re.fullmatch(r"[^,]+,[01]\.[0-9]{4}", line) for line in text.splitlines()[1:])
    with zipfile.ZipFile(exports / "submission.zip") as archive:
        assert archive.read("submission.csv").decode() == text
    answer = invoke(*SUBMIT, "--dry-run")
    assert answer.code == 0
    assert f"template: the rows and the header are those of {template}\n" in answer.out
    assert not (kaggle / "calls.jsonl").exists()
    assert invoke(*SUBMIT).code == 0
    assert read_calls(kaggle)[0][4] == str(exports / "submission.zip")

    with template.open("a") as file:
        file.write("more,0.5\n")
    answer = invoke(*SUBMIT, "--allow-duplicate")
    assert (answer.code, answer.err) == (
        1,
        f"error: the template {template} has changed since the submission was written\n"
        "next: invoke ensemble-submit --experiment tiny\n",
    )
    config.write_text(config.read_text().replace("'zip'", "'txt'"))
    assert invoke("ensemble-submit", "--experiment", "tiny", "--data", str(competition)).code == 0
    assert (exports / "submission.txt").read_text() == (exports / "submission.csv").read_text()
    assert not (exports / "submission.zip").exists()
    assert invoke("verify", "--experiment", "tiny").code == 0


def test_a_notebook_is_submitted_in_a_code_competition(copy: Path, kaggle: Path, invoke: Invoke) -> None:
    assert copy.is_dir()
    assert invoke(*SUBMIT, "--kernel", "ann/faces", "--kernel-version", "3").code == 0
    assert read_calls(kaggle)[0][3:9] == ["-k", "ann/faces", "-v", "3", "-f", "submission.csv"]
    for flags in (("--kernel", "ann/faces"), ("--kernel", "faces", "--kernel-version", "3")):
        answer = invoke(*SUBMIT, *flags)
        assert answer.code == 1
        assert answer.err.startswith("error: --kernel ")


def test_other_networks_than_those_it_is_of(copy: Path, kaggle: Path, competition: Path, invoke: Invoke) -> None:
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 1"))
    assert invoke("train-folds", "--experiment", "tiny", "--restart", "--data", str(competition)).code == 0
    answer = invoke(*SUBMIT)
    assert (answer.code, answer.err) == (
        1,
        f"error: {copy / 'exports' / 'tiny' / 'submission.csv'} was made with networks that were trained again since\n"
        "next: invoke ensemble-submit --experiment tiny\n",
    )
    assert not (kaggle / "calls.jsonl").exists()


def test_the_true_command_line_without_an_account(
    copy: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    answer = invoke(*SUBMIT)
    path = copy / "exports" / "tiny" / "submission.csv"
    assert answer.code == 1
    assert answer.err.startswith(f"error: kaggle did not take {path}\n  Authentication required")
    assert answer.err.endswith(
        "next: correct that; kaggle competitions submissions faces shows the received submissions\n"
    )


def test_there_may_be_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        command.find_program()
    assert str(caught.value) == (
        "the command kaggle is not installed\nnext: pip install -e '.[kaggle]', then kaggle auth login"
    )
    (tmp_path / "kaggle").write_text("")
    assert command.find_program() == str(tmp_path / "kaggle")

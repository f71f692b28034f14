"""Calls of the Kaggle command line, which has the user's account; ffdi never reads a password or a token."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ffdi.core import names
from ffdi.core.errors import ConfigError

TIMEOUT = 600.0
"""Seconds for an upload or a query, in addition to the requested wait for a score."""
REF = re.compile(r"Submission ref: ([0-9]+)")
COMPETITION = re.compile(r"\w[\w.-]*", re.ASCII)
KERNEL = re.compile(r"[\w-]+/[\w-]+", re.ASCII)
FAILED = "ERROR"
"""Kaggle's status of a submission that could not be scored."""


class Answer(NamedTuple):
    """The result of an upload.

    Attributes:
        code: exit code of the command line; also not 0 if the upload succeeded, but the score came too late.
        output: the printed text without the progress bar.
        ref: number of the submission; '' if it is unknown.
    """

    code: int
    output: str
    ref: str

    @property
    def is_accepted(self) -> bool:
        return self.code == 0 or bool(self.ref)


class Upload(NamedTuple):
    """What is submitted: a file, or a version of a notebook in a code competition.

    Attributes:
        path: the file; of a notebook, the file of this name in its output is submitted.
        kernel: the notebook, OWNER/NAME; None for a file.
        version: of the notebook.
    """

    path: Path
    kernel: str | None = None
    version: int | None = None

    def format_arguments(self) -> list[str]:
        if self.kernel is None:
            return ["-f", str(self.path)]
        return ["-k", self.kernel, "-v", str(self.version), "-f", self.path.name]


class Verdict(NamedTuple):
    """Kaggle's status of a submission, and its scores as text; '' for a score that does not exist yet."""

    status: str
    public: str
    private: str


def find_program() -> str:
    """Finds the program `kaggle`: in the folder of this Python, or on the search path.

    Raises:
        ConfigError: it is not installed.
    """
    own = Path(sys.executable).with_name("kaggle")
    found = str(own) if own.is_file() else shutil.which("kaggle")
    if found is None:
        raise ConfigError(
            "the command kaggle is not installed", hint="pip install -e '.[kaggle]', then kaggle auth login"
        )
    return found


def check_arguments(competition: str, message: str, kernel: str | None = None, version: int | None = None) -> None:
    """Refuses arguments that Kaggle's command line would misread.

    Raises:
        ConfigError: the name of the competition or of the notebook is invalid, the message is not one line of text, or
            a notebook has no version.
    """
    if (kernel is None) != (version is None):
        raise ConfigError("--kernel and --kernel-version belong together", hint="pass both, or none")
    if kernel is not None and not KERNEL.fullmatch(kernel):
        raise ConfigError(
            f"--kernel {names.quote(kernel)} is no name of a notebook",
            hint="pass OWNER/NAME, as in its address on Kaggle",
        )
    if not COMPETITION.fullmatch(competition):
        raise ConfigError(
            f"--competition {names.quote(competition)} is no name of a competition",
            hint="pass the last part of its address on Kaggle",
        )
    if names.UNSAFE.search(message):
        raise ConfigError(f"--message {names.quote(message)} {names.find_fault(message)}", hint="pass one line of text")


def submit(competition: str, upload: Upload, message: str, wait: int) -> Answer:
    """Submits a file or a notebook, and waits for its score.

    Args:
        competition: its name in the address.
        upload: what is submitted.
        message: a description, which Kaggle shows.
        wait: seconds to wait for the score; 0 does not wait.
    """
    words = [
        "competitions",
        "submit",
        competition,
        *upload.format_arguments(),
        f"--message={message}",
    ]  # the message may start with '-'
    result = _run_kaggle([*words, "--wait", str(wait)] if wait else words, TIMEOUT + wait)
    lines = _clean_lines(result.stdout) + (_clean_lines(result.stderr) if result.returncode else [])
    ref = REF.search(result.stdout)
    return Answer(result.returncode, "\n".join(lines), ref[1] if ref else "")


def fetch_verdict(competition: str, ref: str) -> Verdict | None:
    """Fetches the status of a submission; None if Kaggle does not answer, or does not list it."""
    result = _run_kaggle(["competitions", "submissions", competition, "--csv", "--quiet"], TIMEOUT)
    for row in csv.DictReader(io.StringIO(result.stdout)) if result.returncode == 0 else ():
        if row.get("ref") == ref:
            status = (row.get("status") or "").rpartition(".")[2]  # SubmissionStatus.COMPLETE
            return Verdict(status, row.get("publicScore") or "", row.get("privateScore") or "")
    return None


def _run_kaggle(words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    command = [find_program(), *words]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {seconds:.0f} s")


def _clean_lines(text: str) -> list[str]:
    """Splits output into lines; drops blank lines and all but the last state of a progress bar."""
    shown = (line.rpartition("\r")[2].strip() for line in text.splitlines())
    return [line for line in shown if line and not re.match(r"\d+%\|", line)]

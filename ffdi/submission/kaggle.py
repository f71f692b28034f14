"""The Kaggle command line, which knows a person's account; ffdi never sees a password or a token."""

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

PATIENCE = 600.0
"""Seconds for the upload, and for the answer to a question, beside what a person wants to wait for."""
REF = re.compile(r"Submission ref: ([0-9]+)")
COMPETITION = re.compile(r"\w[\w.-]*", re.ASCII)
FAILED = "ERROR"
"""The status of what could not be scored."""


class Answer(NamedTuple):
    """What it said to a submission.

    Attributes:
        code: its exit code; not 0 either where it took the file, but no score came in time.
        words: all that it printed, without its progress bar.
        ref: the submission's number; '' where it named none.
    """

    code: int
    words: str
    ref: str

    @property
    def taken(self) -> bool:
        """Whether Kaggle has the file."""
        return self.code == 0 or bool(self.ref)


class Verdict(NamedTuple):
    """What Kaggle made of a submission: a status, and scores as it writes them, '' where there is none yet."""

    status: str
    public: str
    private: str


def program() -> str:
    """The path of `kaggle`: beside this Python, else on the search path.

    Raises:
        ConfigError: there is none.
    """
    beside = Path(sys.executable).with_name("kaggle")
    found = str(beside) if beside.is_file() else shutil.which("kaggle")
    if found is None:
        raise ConfigError("there is no command kaggle", hint="pip install -e '.[kaggle]', then kaggle auth login")
    return found


def check(competition: str, message: str) -> None:
    """Refuses what Kaggle's command line would take for something else.

    Raises:
        ConfigError: the competition's name is none, or the message is not one line of text.
    """
    if not COMPETITION.fullmatch(competition):
        raise ConfigError(
            f"--competition {names.quote(competition)}: Kaggle has none of that name",
            hint="pass --competition, as in its address on Kaggle",
        )
    if names.UNFIT.search(message):
        raise ConfigError(f"--message {names.quote(message)} {names.find_fault(message)}", hint="pass one line of text")


def submit(competition: str, path: Path, message: str, wait: int) -> Answer:
    """Sends a file, and waits for its score.

    Args:
        competition: as in the competition's address.
        path: a CSV.
        message: what Kaggle shows beside it.
        wait: seconds to wait for the score; 0 does not wait.
    """
    words = ["competitions", "submit", competition, "-f", str(path), f"--message={message}"]  # it may begin with '-'
    done = _asked([*words, "--wait", str(wait)] if wait else words, PATIENCE + wait)
    said = _lines(done.stdout) + (_lines(done.stderr) if done.returncode else [])
    ref = REF.search(done.stdout)
    return Answer(done.returncode, "\n".join(said), ref[1] if ref else "")


def verdict(competition: str, ref: str) -> Verdict | None:
    """What became of a submission; None where Kaggle cannot be asked, or does not list it."""
    done = _asked(["competitions", "submissions", competition, "--csv", "--quiet"], PATIENCE)
    for row in csv.DictReader(io.StringIO(done.stdout)) if done.returncode == 0 else ():
        if row.get("ref") == ref:
            status = (row.get("status") or "").rpartition(".")[2]  # SubmissionStatus.COMPLETE
            return Verdict(status, row.get("publicScore") or "", row.get("privateScore") or "")
    return None


def _asked(words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    command = [program(), *words]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {seconds:.0f} s")


def _lines(text: str) -> list[str]:
    """Lines that say something; of a progress bar's only what stands there at the end."""
    shown = (line.rpartition("\r")[2].strip() for line in text.splitlines())
    return [line for line in shown if line and not re.match(r"\d+%\|", line)]

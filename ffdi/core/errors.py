"""What ffdi says when it cannot go on: what is wrong, where, and the next command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ffdi.core import names

SHOWN_PROBLEMS = 100
"""Problems printed one by one; the rest are counted."""


class FFDIError(Exception):
    """An error that a person can act on; its text is fit for a terminal, whatever names stand in it.

    Args:
        what: one sentence that says what is wrong, naming the file, option or image.
        problems: every single fault found, one line each ("trainset_label.txt line 4: ...").
        hint: the next thing to do, a command where there is one.
    """

    def __init__(self, what: str, *, problems: Sequence[str] = (), hint: str = "") -> None:
        self.what, self.problems, self.hint = what, tuple(problems), hint
        super().__init__(what, self.problems, hint)

    def __str__(self) -> str:
        lines = [names.escape(self.what), *(f"  {names.escape(one)}" for one in self.problems[:SHOWN_PROBLEMS])]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        if self.hint:
            lines.append(f"next: {names.escape(self.hint)}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.problems, self.hint)


class ConfigError(FFDIError):
    """An experiment's config.toml, or a flag, says something that cannot be done."""


class DataError(FFDIError):
    """Label files or images that cannot be trusted."""


class ExperimentError(FFDIError):
    """Artefacts of an experiment that are missing, foreign, changed or in use."""


class DeviceError(FFDIError):
    """The device that was asked for is not there, or does not do what was asked."""


class TrainingError(FFDIError):
    """Training that cannot lead to a usable network."""


class SubmissionError(FFDIError):
    """Scores that must not be submitted."""


class ParityError(FFDIError):
    """An exported graph that does not give the network's answers."""


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' for the closest known word, else the known words: the tail of an error."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def _rebuild(kind: type[FFDIError], what: str, problems: tuple[str, ...], hint: str) -> FFDIError:
    return kind(what, problems=problems, hint=hint)

"""Errors of ffdi: each says what is wrong and where, and gives the next command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ffdi.core import names

SHOWN_PROBLEMS = 100
"""Number of problems that are printed; the others are counted."""


class FFDIError(Exception):
    """An error that the user can correct. Its text is safe for a terminal, even with hostile names in it.

    Args:
        what: one sentence that says what is wrong, with the file, option or image.
        problems: all faults, one line each ("trainset_label.txt line 4: ...").
        hint: the next step, as a command if possible.
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

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback, by a convention of IPython."""
        return [f"error: {self}"]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (type(self), self.what, self.problems, self.hint)


class ConfigError(FFDIError):
    """A config.toml or a flag has an impossible value."""


class DataError(FFDIError):
    """Label files or images cannot be used."""


class ExperimentError(FFDIError):
    """Files of an experiment are missing, changed, in use, or belong to another experiment."""


class DeviceError(FFDIError):
    """The requested device is missing, or does not work as requested."""


class TrainingError(FFDIError):
    """A training cannot give a usable network."""


class SubmissionError(FFDIError):
    """Scores must not be submitted."""


class ParityError(FFDIError):
    """An exported graph does not give the scores of its networks."""


def get_first_line(error: BaseException) -> str:
    """Returns the first line of a library's error message, or the error's type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def suggest_nearest(word: str, known: Iterable[str]) -> str:
    """Returns "did you mean 'X'?" for the closest known word, or the list of all known words."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def format_count(count: int, noun: str) -> str:
    """Returns '1 file' or '2 files'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_are(count: int, noun: str = "") -> str:
    """Returns 'is 1 file' or 'are 2 files'; without a noun, 'is 1' or 'are 2'."""
    return f"{'is' if count == 1 else 'are'} {format_count(count, noun) if noun else count}"


def format_duration(seconds: float) -> str:
    """Returns '40 s', '12 min' or '3 h 5 min'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def check_choice(key: str, value: str, known: Iterable[str]) -> None:
    """Raises:
    ConfigError: the value of a key of config.toml is not one of the known values; the message has the nearest one.
    """
    if value not in (known := list(known)):
        raise ConfigError(
            f"unknown {key} '{value}': {suggest_nearest(value, known)}", hint=f"correct {key} in config.toml"
        )


def _rebuild_error(kind: type[FFDIError], what: str, problems: tuple[str, ...], hint: str) -> FFDIError:
    return kind(what, problems=problems, hint=hint)

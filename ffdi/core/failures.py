"""Why a command ended early: an error that a person can correct, or a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ffdi.core import hints, machine
from ffdi.core.errors import ConfigError, FFDIError

RESUME = "nothing finished is lost; the same command does the rest"
REINSTALL = "install it again in this environment: pip install -e ."


class Failure(NamedTuple):
    """Why a command ended early.

    Attributes:
        text: for a terminal.
        error: the key `error` of the JSON line.
        code: the exit code.
    """

    text: str
    error: dict[str, Any]
    code: int


def find_failure(body: Callable[[], None]) -> Failure | None:
    """Runs a command; explains an error that a person can correct. An error of ffdi itself keeps its traceback."""
    from ffdi.core.signals import Interrupted

    try:
        body()
    except (Interrupted, KeyboardInterrupt) as stop:
        text = describe_stop(stop)
        code = stop.code if isinstance(stop, Interrupted) else 130
        return Failure(text, {"what": text, "problems": [], "next": "the same command"}, code)
    except Exception as error:
        found = explain_error(error)
        if found is None:
            raise
        return Failure(f"error: {found}", {"what": found.what, "problems": list(found.problems), "next": found.hint}, 1)
    return None


def describe_stop(stop: BaseException) -> str:
    """What a person reads after a stop: by Ctrl-C, by SIGTERM, or at the end of --max-time."""
    why = getattr(stop, "why", "")
    return f"stopped ({why}): {RESUME}" if why else f"stopped: {RESUME}"


def explain_error(error: Exception) -> FFDIError | None:
    """The error with a complete next step, as a person can correct it; None for an error of ffdi itself."""
    found = _find_correctable(error)
    if found is not None:
        found.hint = hints.complete(found.hint)
    return found


def _find_correctable(error: Exception) -> FFDIError | None:
    if isinstance(error, FFDIError):
        return error
    if machine.is_memory_error(error):
        return machine.explain_memory_error(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return FFDIError(f"{place}{error.strerror or error}", hint=f"mend that; {RESUME}")
    if isinstance(error, ImportError) and not (error.name or "").startswith("ffdi"):
        return ConfigError(f"a library cannot be loaded: {error}", hint=REINSTALL)
    return None

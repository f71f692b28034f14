"""Calls of commands from Python, as in a notebook: they print as on a terminal, and return what they have printed."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from typing import NamedTuple, TypeVar

from ffdi.core import console, failures, flags, hints
from ffdi.core.console import CapturedOutput
from ffdi.core.errors import ConfigError
from ffdi.core.hints import Rewrite
from ffdi.core.signals import OUT_OF_TIME, Interrupted

Options = TypeVar("Options")


class Stopped(KeyboardInterrupt):
    """The call was stopped by Ctrl-C, the button of a notebook, or SIGTERM; the same call does the rest."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Outcome(NamedTuple):
    """What a call came to.

    Attributes:
        output: all that was printed.
        finished: False if --max-time ended it; the same call does the rest.
    """

    output: CapturedOutput
    finished: bool


def call(
    options: type[Options], values: Mapping[str, object], run: Callable[[Options], None], rewrite: Rewrite = str
) -> Outcome:
    """Runs a command in this process.

    Args:
        options: its options dataclass.
        values: a value of Python for some flags, by the field's name; None leaves the default.
        run: the command.
        rewrite: writes the commands that messages suggest in another way.

    Raises:
        FFDIError: an error that a person can correct.
        Stopped: by a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            "ffdi was called in a thread, where Python handles no signals",
            hint="call it in the main thread, as cells of Jupyter, Kaggle and Colab are",
        )
    known = {one.name: one for one in flags.list_flags(options)}
    words = {name: known[name].spell(value) for name, value in values.items() if value is not None}
    carried = flags.list_carried(list(known.values()), words)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # some terminals cannot show every letter of a name
    with hints.carry_flags(carried, flags.accepted, rewrite), console.record_output() as output:
        try:
            with console.show_signs_of_life(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's; a command shows none of its bars
                run(options(**{name: known[name].parse(word) for name, word in words.items()}))
        except Interrupted as stop:
            if stop.code != OUT_OF_TIME:
                raise Stopped(failures.describe_stop(stop)) from None
            console.say(failures.describe_stop(stop))
            return Outcome(output, finished=False)
        except KeyboardInterrupt as stop:
            raise Stopped(failures.describe_stop(stop)) from None
        except Exception as error:
            found = failures.explain_error(error)
            if found is None or found is error:
                raise
            raise found from error
    return Outcome(output, finished=True)

"""Calls of commands from Python."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ffdi.core import calls, console
from ffdi.core.calls import Outcome, Stopped
from ffdi.core.errors import ConfigError, FFDIError
from ffdi.core.flags import flag
from ffdi.core.signals import OUT_OF_TIME, Interrupted


@dataclass(frozen=True)
class Options:
    """Two flags."""

    experiment: str = flag("quickstart", "a name", carried=True)
    steps: int = flag(100, "a number")


def call(run: Callable[[Options], None], **values: object) -> Outcome:
    return calls.call(Options, values, run)


def fail(error: BaseException) -> Callable[[Options], None]:
    def run(_options: Options) -> None:
        raise error

    return run


def test_a_call_prints_and_returns_what_it_printed(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def run(options: Options) -> None:
        seen.append(options)
        console.say("half")
        console.table("sizes", ["", "AUC", "more"], [("one", 1 / 3, "x")], details=["more"])
        console.note_values({"train.lr": 0.1})

    output, finished = call(run, steps=3, experiment=None)
    assert (seen, finished) == ([Options("quickstart", 3)], True)
    assert output.lines == ["half"]
    assert output.tables == [{"heading": "sizes", "columns": ["", "AUC", "more"], "rows": [["one", 1 / 3, "x"]]}]
    assert output.values == {"train.lr": 0.1}
    printed = capsys.readouterr().out
    assert printed.startswith("half\nsizes\n")
    assert "0.3333" in printed
    assert not console.can_ask()


def test_the_end_of_the_time_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    output, finished = call(fail(Interrupted("--max-time is over", OUT_OF_TIME)))
    assert not finished
    assert output.lines == ["stopped (--max-time is over): nothing finished is lost; the same command does the rest"]
    assert capsys.readouterr().out == f"{output.lines[0]}\n"


@pytest.mark.parametrize("error", [Interrupted("Ctrl-C", 130), Interrupted("SIGTERM", 143), KeyboardInterrupt()])
def test_a_stop_is_a_keyboard_interrupt_of_one_line(error: BaseException) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        call(fail(error))
    assert isinstance(caught.value, Stopped)
    (line,) = caught.value._render_traceback_()
    assert line.startswith("stopped")
    assert line.endswith("nothing finished is lost; the same command does the rest")


def test_an_error_that_a_person_can_correct_has_no_traceback_in_a_notebook() -> None:
    with pytest.raises(FFDIError) as caught:
        call(fail(OSError(errno.ENOSPC, "No space left on device", "a/b")))
    assert caught.value._render_traceback_() == [f"error: {caught.value}"]
    assert str(caught.value).startswith("a/b: No space left on device\nnext: mend that;")


def test_an_error_of_ffdi_itself_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        call(fail(ZeroDivisionError()))


def test_a_call_in_a_thread_is_refused() -> None:
    found = []

    def run() -> None:
        with pytest.raises(ConfigError, match="ffdi was called in a thread") as caught:
            call(fail(AssertionError()))
        found.append(caught.value.hint)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == ["call it in the main thread, as cells of Jupyter, Kaggle and Colab are"]

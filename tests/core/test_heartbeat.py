"""A command that prints nothing for a while says that it works."""

from __future__ import annotations

import time

import pytest

from ffdi.core import console, heartbeat

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short times in place of seconds."""
    for name, seconds in (("FIRST_SECONDS", 0.05), ("SILENT_SECONDS", 0.2), ("CHECK_SECONDS", 0.01)):
        monkeypatch.setattr(heartbeat, name, seconds)


def wait_for(lines: int, capsys: Capture) -> list[str]:
    """Waits until so many lines are printed."""
    text, end = "", time.monotonic() + 20
    while text.count("\n") < lines and time.monotonic() < end:
        time.sleep(0.01)
        text += capsys.readouterr().out
    return text.splitlines()


@pytest.mark.usefixtures("quick")
def test_the_first_sign_comes_before_any_output(capsys: Capture) -> None:
    with console.show_signs_of_life():
        lines = wait_for(2, capsys)
    assert lines[:2] == [heartbeat.LOADING, "still working, for 0 s so far"]


@pytest.mark.usefixtures("quick")
def test_a_bar_says_how_far_it_is_where_it_cannot_be_seen(capsys: Capture) -> None:
    with console.show_signs_of_life():
        console.say("starts")
        with console.bar("scoring", 40) as bar:
            bar.advance(10)
            lines = wait_for(2, capsys)
            bar.at(20, "scoring [bold]")
            lines += wait_for(1, capsys)
    assert lines[:2] == ["starts", "still working: scoring, 25 %, 0 s so far"]
    assert lines[-1] == "still working: scoring [bold], 50 %, 0 s so far"


def test_what_is_quick_or_captured_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with console.show_signs_of_life():
        console.say("done")
    assert capsys.readouterr().out == "done\n"
    monkeypatch.setattr(heartbeat, "LONG_SECONDS", 0.0)
    with console.show_signs_of_life():
        console.say("done")
    assert capsys.readouterr().out == "done\ntook 0 s\n"


@pytest.mark.usefixtures("quick")
def test_an_error_ends_the_signs(capsys: Capture) -> None:
    with pytest.raises(ValueError, match="no"), console.show_signs_of_life():
        raise ValueError("no")
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().out == ""

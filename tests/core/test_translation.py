"""Messages in another language: the catalogue is whole, and finished messages are found in it."""

from __future__ import annotations

import re
import sys
from collections import Counter

import polib
import pytest

from ffdi.core import console, translation
from ffdi.core.errors import ConfigError
from ffdi.core.translation import Catalogue
from tests.conftest import PROJECT, Invoke

sys.path.insert(0, str(PROJECT / "docs"))
import messages  # docs/ is no package

CHINESE = translation.FOLDER / "zh.po"
PLACEHOLDER = re.compile(r"\{\d+\}|%\(\w+\)s|\{[a-z_]+\}|\{:[^}]*\}")


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(translation.VARIABLE, "zh")


def test_the_catalogue_has_every_message_of_the_code_and_no_other() -> None:
    known = [
        messages.Count(entry.msgid, entry.msgid_plural) if entry.msgid_plural else entry.msgid
        for entry in polib.pofile(str(CHINESE))
    ]
    assert known == messages.list_messages(), "run: python docs/messages.py"


def test_every_message_is_translated_with_the_same_values() -> None:
    texts = {entry.msgid: entry.msgstr or entry.msgstr_plural.get(0, "") for entry in polib.pofile(str(CHINESE))}
    assert [message for message, text in texts.items() if not text] == []
    found = {message: [Counter(PLACEHOLDER.findall(one)) for one in (message, text)] for message, text in texts.items()}
    assert [message for message, (ours, theirs) in found.items() if ours != theirs] == []


def test_single_words_of_the_catalogue_are_words_of_the_code() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "ffdi").rglob("*.*") if path.suffix in (".py", ".j2"))
    assert [
        word
        for word in messages.WORDS
        if "{" not in word and not re.search(rf"\b{re.escape(word.rstrip(':'))}\b", code)
    ] == []


def test_finished_messages_are_found_by_their_own_entry() -> None:
    catalogue, wrong, entries = translation.read_catalogue(CHINESE), [], polib.pofile(str(CHINESE))

    def fill(text: str) -> str:
        return re.sub(r"\{(\d+)\}", r"1\1", text)

    for entry in entries:
        for message in filter(None, (entry.msgid, entry.msgid_plural)):
            if catalogue.translate(fill(message)) != fill(entry.msgstr or entry.msgstr_plural[0]):
                wrong.append(message)
    assert len(wrong) < 0.01 * len(entries), wrong  # two entries may fit, such as '{0}{1}' behind the same words


CATALOGUE = Catalogue(
    {
        "{0} are stored in {1}": "{1} 有 {0}",
        "{0} of {1}": "{1} 中的 {0}",
        "no images": "没有图片",
        "images of {0} are in {1}, of which {2} are damaged": "{1} 有 {0} 的图片，其中 {2} 已损坏",
        "mean": "均值",
    },
    {"{0} images": "{0} 张图片", "{0} image": "{0} 张图片"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no images", "没有图片"),
        (
            "12 images are stored in /data/mean",
            "/data/mean 有 12 张图片",
        ),  # values of several words are translated in turn
        ("images of tiny are in a b, of which 3 images are damaged", "a b 有 tiny 的图片，其中 3 张图片 已损坏"),
        ("3 of 40", "40 中的 3"),
        ("3 big ones of 40", "3 big ones of 40"),  # too few letters to be sure
        ("12 images of no images", "没有图片 中的 12 张图片"),
        ("mean", "均值"),
        ("an unknown message", "an unknown message"),
        ("all images", "all images"),  # no number
    ],
)
def test_the_entry_with_the_most_letters_translates(text: str, expected: str) -> None:
    assert CATALOGUE.translate(text) == expected


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LC_MESSAGES": "zh-TW", "LANG": "C"}, "zh"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "FFDI_LANG": "en"}, "en"),
        ({"FFDI_LANG": "zh"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_variable_or_of_the_locale(
    variables: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*translation.LOCALE_VARIABLES, translation.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert translation.choose_language() == language


def test_an_unknown_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(translation.VARIABLE, "fr")
    with pytest.raises(ConfigError, match="FFDI_LANG=fr: known: en, zh"):
        translation.check_language()


@pytest.mark.usefixtures("chinese", "copy")
def test_screens_are_chinese_and_json_is_english(invoke: Invoke) -> None:
    answer = invoke("leaderboard")
    assert answer.code == 0
    assert answer.out.startswith("AUC：1 个实验")
    assert "tiny" in answer.out
    failed = invoke("report", "--experiment", "none")
    assert failed.code == 1
    assert failed.err.startswith("错误: 没有实验 'none'")
    assert "\n下一步: " in failed.err
    for_programs = invoke("leaderboard", "--json")
    assert '"heading": "AUC of 1 experiment' in for_programs.out


@pytest.mark.usefixtures("chinese")
def test_a_table_keeps_names_of_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("images", ["fold", "AUC"], [("mean", 0.5)])
    shown = capsys.readouterr().out
    assert "图片" in shown
    assert "mean" in shown

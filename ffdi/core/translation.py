"""Messages in the user's language.

Messages are f-strings, written in English where they arise. A gettext catalogue (`ffdi/translations/zh.po`) has each of
them with {0}, {1}, ... for its values; `docs/messages.py` collects them from the code. The translation of a finished
message is found by its text: by the entry whose fixed words all occur in it in order, and among several by the one with
the most letters in these. Its values are translated in turn if they have several words: a single word may be a name.
Text without an entry stays English, and so does all output for programs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ffdi.core.errors import ConfigError

VARIABLE = "FFDI_LANG"
LANGUAGES = ("en", "zh")
LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first one that is set has the locale, as in POSIX."""
FOLDER = Path(__file__).resolve().parent.parent / "translations"
VALUE = re.compile(r"\{\d+\}")
FEW_LETTERS = 8
"""An entry with fewer fixed letters, such as '{0} of {1}', takes values of one word only: it would match any text."""


def check_language() -> None:
    """Raises ConfigError if $FFDI_LANG is none of LANGUAGES."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in LANGUAGES:
        hint = f"export {VARIABLE}=en, or unset it"
        raise ConfigError(f"{VARIABLE}={wanted}: known: {', '.join(LANGUAGES)}", hint=hint)


def choose_language() -> str:
    """The language of $FFDI_LANG, else of the locale, if it is one of LANGUAGES; else English."""
    if wanted := os.environ.get(VARIABLE, ""):
        return wanted if wanted in LANGUAGES else "en"
    locale = next(filter(None, map(os.environ.get, LOCALE_VARIABLES)), "")
    language = re.split(r"[_.@-]", locale)[0].lower()
    return language if language in LANGUAGES else "en"


def translate(text: str) -> str:
    """The text in the user's language; unchanged if there is no translation."""
    catalogue = _load(choose_language())
    return text if catalogue is None else catalogue.translate(text)


def translate_name(text: str) -> str:
    """Does the same for text that may be a name, such as a cell of a table: a single word stays."""
    return translate(text) if " " in text else text


@dataclass(frozen=True)
class Entry:
    """A translated message with values.

    Attributes:
        parts: the fixed text before, between and behind the values.
        order: the numbers of the values in `parts`.
        translation: with {0}, {1}, ... for the values.
    """

    parts: Sequence[str]
    order: Sequence[int]
    translation: str

    @cached_property
    def letters(self) -> int:
        """The number of fixed letters."""
        return sum(letter.isalpha() for part in self.parts for letter in part)

    def find_values(self, text: str) -> dict[int, str] | None:
        """The values by their numbers; None if the text is another message."""
        first, *middle, last = self.parts
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        start, end, found = len(first), len(text) - len(last), list[str]()
        for part in middle:
            place = text.find(part, start, end)
            if place < 0:
                return None
            found.append(text[start:place])
            start = place + len(part)
        found.append(text[start:end])
        if start > end or (self.letters < FEW_LETTERS and any(re.search(r"\s", value) for value in found)):
            return None
        return dict(zip(self.order, found, strict=True))


class Catalogue:
    """Translations by message.

    Args:
        messages: the translation of each message; both have {0}, {1}, ... for values.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._exact = {message: text for message, text in messages.items() if not VALUE.search(message)}
        entries = [_make_entry(message, text) for message, text in messages.items() if VALUE.search(message)]
        self._entries = sorted(entries, key=lambda entry: -entry.letters)

    def translate(self, text: str) -> str:
        """The translation of a finished message; the same text if there is none."""
        if text in self._exact:
            return self._exact[text]
        for entry in self._entries:
            if (values := entry.find_values(text)) is not None:
                translated = {number: self._translate_value(value) for number, value in values.items()}
                return VALUE.sub(lambda found, known=translated: known[int(found[0][1:-1])], entry.translation)
        return text

    def get(self, message: str) -> str:
        """The translation of a message of a template, which has no values yet."""
        return self._exact.get(message, message)

    def _translate_value(self, value: str) -> str:
        return self.translate(value) if " " in value.strip() else value


def translate_template(message: str) -> str:
    """The translation of a message of a template, whose values come later."""
    catalogue = _load(choose_language())
    return message if catalogue is None else catalogue.get(message)


def read_messages(path: Path) -> dict[str, str]:
    """The translation of each message of a gettext catalogue; those without one are left out."""
    import polib  # only users of other languages need it

    return {entry.msgid: entry.msgstr for entry in polib.pofile(str(path)) if entry.msgstr and not entry.obsolete}


@cache
def _load(language: str) -> Catalogue | None:
    return None if language == "en" else Catalogue(read_messages(FOLDER / f"{language}.po"))


def _make_entry(message: str, text: str) -> Entry:
    order = [int(found[0][1:-1]) for found in VALUE.finditer(message)]
    return Entry(VALUE.split(message), order, text)

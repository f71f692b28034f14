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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

from ffdi.core.errors import ConfigError

VARIABLE = "FFDI_LANG"
LANGUAGES = ("en", "zh")
LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first one that is set has the locale, as in POSIX."""
FOLDER = Path(__file__).resolve().parent.parent / "translations"
VALUE = re.compile(r"\{\d+\}")
NUMBER = re.compile(r"[\d.,]+")
FEW_LETTERS = 8
"""An entry with fewer fixed letters, such as '{0} of {1}', would match any text: its values have to be known, too."""
VERY_FEW = 5
"""An entry with fewer fixed letters is tried last."""
MOST_KNOWN = 10_000
"""Texts whose translations are kept: labels of progress bars come again and again."""
MOST_WAYS = 30
"""Ways to find the fixed parts in a text that are tried."""


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
    return translate(text) if _has_words(text) else text


@dataclass(frozen=True)
class Entry:
    """A translated message with values.

    Attributes:
        parts: the fixed text before, between and behind the values.
        order: the numbers of the values in `parts`.
        translation: with {0}, {1}, ... for the values.
        is_count: whether its value is a number.
    """

    parts: Sequence[str]
    order: Sequence[int]
    translation: str
    is_count: bool

    @cached_property
    def letters(self) -> int:
        """The number of fixed letters."""
        return sum(letter.isalpha() for part in self.parts for letter in part)

    def fill(self, values: Mapping[int, str]) -> str:
        """The translation with values."""
        return VALUE.sub(lambda found: values[int(found[0][1:-1])], self.translation)

    def list_values(self, text: str) -> Iterator[dict[int, str]]:
        """The values by their numbers, for each way in which the fixed parts occur in a text; the shortest first."""
        first, *middle, last = self.parts
        if text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last):
            for found in _split(text[len(first) : len(text) - len(last)], middle):
                if not self.is_count or NUMBER.fullmatch(found[0]):
                    yield dict(zip(self.order, found, strict=True))


def _split(text: str, parts: Sequence[str]) -> Iterator[list[str]]:
    """What is before, between and behind fixed parts that occur in a text in this order."""
    if not parts:
        yield [text]
        return
    last = text.rfind(parts[-1])  # without it, no place of the others matters
    place = text.find(parts[0])
    while 0 <= place <= last:
        for rest in _split(text[place + len(parts[0]) :], parts[1:]):
            yield [text[:place], *rest]
        place = text.find(parts[0], place + 1)


class Catalogue:
    """Translations by message.

    Args:
        messages: the translation of each message; both have {0}, {1}, ... for values.
        counts: the same for messages that are a number, {0}, with a noun.
    """

    def __init__(self, messages: Mapping[str, str], counts: Mapping[str, str]) -> None:
        self._exact = {message: text for message, text in messages.items() if not VALUE.search(message)}
        entries = [_make_entry(message, text) for message, text in messages.items() if VALUE.search(message)]
        entries += [_make_entry(message, text, is_count=True) for message, text in counts.items()]
        self._known: dict[str, str] = {}
        ordered = sorted(entries, key=lambda entry: -entry.letters)
        self._strong = [entry for entry in ordered if entry.letters >= FEW_LETTERS]
        # entries without letters put messages together; those with very few, such as 'fold {0}', are parts of messages
        weak = [entry for entry in ordered if entry.letters < FEW_LETTERS]
        self._weak = sorted(weak, key=lambda entry: (entry.letters < VERY_FEW, entry.letters > 0))

    def translate(self, text: str) -> str:
        """The translation of a finished message; the same text if there is none."""
        if text not in self._known:
            if len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]  # the oldest one
            self._known[text] = text  # a message is no part of itself
            self._known[text] = self._find(text)
        return self._known[text]

    def _find(self, text: str) -> str:
        if text in self._exact:
            return self._exact[text]
        strong, weak = (partial(self._find_among, entries, text) for entries in (self._strong, self._weak))
        return strong() or self._translate_core(text) or weak() or text

    def _translate_core(self, text: str) -> str:
        """The translation of a text without the blanks around it; '' if there are none, or no translation."""
        core = text.strip()
        translated = core if core == text else self.translate(core)
        return "" if translated == core else text.replace(core, translated)

    def _find_among(self, entries: Sequence[Entry], text: str) -> str:
        """The translation by the first entry that fits; '' if none does."""
        for entry in entries:
            ways = [self._translate_values(values) for values in islice(entry.list_values(text), MOST_WAYS)]
            if ways:
                unknown, known, values = min(ways, key=itemgetter(0))
                if entry.letters >= FEW_LETTERS or (not unknown and (entry.letters or known)):
                    return entry.fill(values)
        return ""

    def _translate_values(self, values: Mapping[int, str]) -> tuple[int, int, dict[int, str]]:
        """The numbers of values of several words without and with a translation, and all values."""
        found = {number: self.translate(value) if _has_words(value) else value for number, value in values.items()}
        same = [found[number] == value for number, value in values.items() if _has_words(value)]
        return sum(same), len(same) - sum(same), found

    def get(self, message: str) -> str:
        """The translation of a message of a template, which has no values yet."""
        return self._exact.get(message, message)


def _has_words(text: str) -> bool:
    """Whether a text has several words: a single one may be a name, and '95 %' is the same in each language."""
    return " " in text.strip() and any(letter.isalpha() for letter in text)


def translate_template(message: str) -> str:
    """The translation of a message of a template, whose values come later."""
    catalogue = _load(choose_language())
    return message if catalogue is None else catalogue.get(message)


def read_catalogue(path: Path) -> Catalogue:
    """Reads a gettext catalogue. Its plural forms are numbers with a noun; a language with one form has it for both."""
    import polib  # only users of other languages need it

    messages, counts = dict[str, str](), dict[str, str]()
    for entry in polib.pofile(str(path)):
        if entry.msgid_plural:
            counts |= dict.fromkeys((entry.msgid, entry.msgid_plural), entry.msgstr_plural[0])
        else:
            messages[entry.msgid] = entry.msgstr
    return Catalogue(messages, counts)


@cache
def _load(language: str) -> Catalogue | None:
    return None if language == "en" else read_catalogue(FOLDER / f"{language}.po")


def _make_entry(message: str, text: str, is_count: bool = False) -> Entry:
    order = [int(found[0][1:-1]) for found in VALUE.finditer(message)]
    return Entry(VALUE.split(message), order, text, is_count)

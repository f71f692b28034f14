"""Names from outside, of images, groups, experiments, files: which ones are refused, and how any is shown."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Iterable
from pathlib import PurePosixPath, PureWindowsPath

BLANKS = " \t"
"""What may stand around a field of a CSV and is no part of it; other blanks (U+00A0, U+3000) belong to the name."""
UNFIT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff]"
    r"|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)
"""Characters that end a line, steer a terminal, hide or reorder text (Unicode's Cc, Cs, Zl, Zp and most of Cf).

Of Cf may stay what is seen (Arabic number signs, Egyptian joiners), and the joiners U+200C and U+200D between two
characters beyond ASCII, where Persian, Indic scripts and emoji need them; elsewhere they join nothing.
"""
KINDS = {
    "Cs": "is no UTF-8",
    "Cc": "has a control character",
    "Zl": "has a character that ends a line",
    "Zp": "has a character that ends a line",
}
"""What is said of them, by category; of the rest that they hide or reorder text."""
FORMULAS = {re.compile(r"(?:^|;)\s*[=+@-]"): frozenset("(|!"), re.compile(r"(?:^|;)\s*="): frozenset("#")}
"""Where a cell begins that spreadsheets compute, and what must follow for it to do more than that.

CWE-1236: it calls a function, a program (DDE) or another file; '#' names a sheet of one in LibreOffice. A cell also
begins behind ';' where that separates fields. A sign alone does no harm: images are called '-1.jpg' and '@home.png'.
"""
CALLS = frozenset("(|!#")
"""ASCII without these is no formula of that kind."""
SIMPLE = re.compile(r"\w[\w.-]*", re.ASCII)
"""Names that mean one file of one folder, whatever the system; to take a path apart takes twenty times as long."""
MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&#]")
SHORT = 100
"""Letters of a text in an error that may be of any length."""


def find_fault(name: str) -> str:
    """What keeps a name out of tables, folders and flags, as the end of a sentence; empty where nothing does.

    Refused is what cannot stand unchanged in one line of a UTF-8 CSV and of a terminal, and what a spreadsheet would
    run. Names that only look alike are not told apart here.
    """
    if name.isascii() and name.isprintable() and CALLS.isdisjoint(name):  # half a million names are looked at
        return ""
    if found := UNFIT.search(name):
        what = KINDS.get(category := unicodedata.category(found[0]), "has a character that hides or reorders text")
        return what if category == "Cs" else f"{what}: U+{ord(found[0]):04X}"
    return "is a formula to a spreadsheet" if is_formula(name) else ""


def is_text(name: str) -> bool:
    """Whether a name is text that UTF-8 can hold; a file's name on Linux may be any bytes."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def is_formula(name: str) -> bool:
    """Whether a spreadsheet that opens a CSV with this name would run something (CWE-1236)."""
    text = unicodedata.normalize("NFKC", name)  # Japanese ones take full-width signs as well
    return any(
        (cell := begin.search(text)) and not calls.isdisjoint(text[cell.end() :]) for begin, calls in FORMULAS.items()
    )


def plain(name: str) -> str:
    """One spelling for './a.jpg', 'b//a.jpg' and the like: two rows must not mean one file."""
    return name if SIMPLE.fullmatch(name) else PurePosixPath(name).as_posix()


def leaves(name: str) -> bool:
    """Whether a name means a file outside of its folder, on any system."""
    if SIMPLE.fullmatch(name):
        return False
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts


def normalize_all(known: Iterable[str]) -> set[str]:
    """The names that Unicode can write in several ways, in one of these (NFC): what `twin` looks in."""
    return {unicodedata.normalize("NFC", name) for name in known if not name.isascii()}


def twin(name: str, known: Container[str]) -> str:
    """What is to be said of a name that is not there, while one of `normalize_all` names differs in its Unicode
    normalisation alone; empty where none does. They are two names: a file system may hold either.
    """
    if name.isascii() or unicodedata.normalize("NFC", name) not in known:
        return ""
    form = next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)), "neither NFC nor NFD")
    return f"; one that looks the same is, in another Unicode normalisation (this one is {form})"


def escape(line: str) -> str:
    r"""A line that a terminal shows as it is: control characters and the like as escapes such as \x1b."""
    return UNFIT.sub(lambda found: ascii(found[0])[1:-1], line)


def quote(name: str) -> str:
    """A name in an error: as it is, or with quotes and escapes where a person could not see what it is."""
    plain = name.isprintable() and name == name.strip() and name
    return str(name) if plain else repr(str(name))


def shorten(name: str) -> str:
    """The same, of a text that may be much more than a name: a stray quote can make half a file into one field."""
    return quote(name if len(name) <= SHORT else name[:SHORT] + "...")


def in_json(text: str) -> str:
    """JSON that says the same and that a terminal shows as it is."""
    return UNFIT.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_markdown(name: str) -> str:
    """A name as words of Markdown, whatever stands in it."""
    return MARKDOWN.sub(r"\\\g<0>", name)

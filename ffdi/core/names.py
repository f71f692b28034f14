"""Names from outside (of images, groups, experiments, files): which names are refused, and how names are shown."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Iterable
from pathlib import PurePosixPath, PureWindowsPath

BLANKS = " \t"
"""Blanks around a CSV field that are not part of it; other blanks (U+00A0, U+3000) belong to the name."""
UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff]"
    r"|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)
"""Characters that end a line, steer a terminal, hide or reorder text (Unicode's Cc, Cs, Zl, Zp and most of Cf).

Allowed in Cf: visible characters (Arabic number signs, Egyptian joiners), and the joiners U+200C and U+200D between two
characters beyond ASCII, where Persian, Indic scripts and emoji need them.
"""
FAULTS = {
    "Cs": "is not UTF-8",
    "Cc": "has a control character",
    "Zl": "has a character that ends a line",
    "Zp": "has a character that ends a line",
}
"""The fault by category; characters of other categories hide or reorder text."""
FORMULAS = (
    (re.compile(r"(?:^|;)\s*[=+@-]"), re.compile(r"[|!]|[^\W\d][\w.]*\s*\(")),
    (re.compile(r"(?:^|;)\s*="), re.compile(r"[#(]")),
)
"""Starts of formulas in spreadsheets, each with a pattern that a dangerous formula matches after the start.

A dangerous formula (CWE-1236) calls a function, a program (DDE) or another file; '#' names a sheet in LibreOffice. A
cell also starts after ';', the separator of some locales. '=', '+', '-' and '@' alone are harmless: images have names
such as '-1.jpg', '-1 (2).jpg' and '@home.png'.
"""
FORMULA_SIGNS = frozenset("(|!#")
"""An ASCII name without these signs is no dangerous formula."""
PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
"""Names without folders on any system; a shortcut, because a parsed path takes twenty times as long."""
MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&#]")
SHOWN_LENGTH = 100
"""Characters of a long text that an error shows."""


def find_fault(name: str) -> str:
    """Returns why a name is refused, as the end of a sentence; empty for a good name.

    A good name is the same in a line of a UTF-8 CSV and of a terminal, and no formula for a spreadsheet. Names that
    look alike are all good.
    """
    if name.isascii() and name.isprintable() and FORMULA_SIGNS.isdisjoint(name):  # fast, for half a million names
        return ""
    if found := UNSAFE.search(name):
        fault = FAULTS.get(category := unicodedata.category(found[0]), "has a character that hides or reorders text")
        return fault if category == "Cs" else f"{fault}: U+{ord(found[0]):04X}"
    return "is a formula to a spreadsheet" if is_formula(name) else ""


def is_text(name: str) -> bool:
    """True if UTF-8 can encode a name; on Linux a file name may be any bytes."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def is_formula(name: str) -> bool:
    """True if a spreadsheet that opens a CSV with this name would run a formula (CWE-1236)."""
    text = unicodedata.normalize("NFKC", name)  # Japanese spreadsheets accept full-width signs too
    return any((cell := start.search(text)) and danger.search(text, cell.end()) for start, danger in FORMULAS)


def normalize_path(name: str) -> str:
    """Returns one spelling for 'b/a.jpg', './b/a.jpg' and 'b//a.jpg', so that equal files have equal names."""
    return name if PLAIN_NAME.fullmatch(name) else PurePosixPath(name).as_posix()


def is_outside(name: str) -> bool:
    """True if a name leads outside its folder on any system."""
    if PLAIN_NAME.fullmatch(name):
        return False
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts


def is_absolute(name: str) -> bool:
    """True for an absolute path on Linux, macOS or Windows."""
    return PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()


def normalize_names(known: Iterable[str]) -> set[str]:
    """Returns the names beyond ASCII in the NFC form of Unicode, for `describe_lookalike`."""
    return {unicodedata.normalize("NFC", name) for name in known if not name.isascii()}


def describe_lookalike(name: str, known: Container[str]) -> str:
    """Returns the end of an error about a missing name if a known name differs only in its Unicode normalisation.

    Args:
        name: the missing name.
        known: a result of `normalize_names`.
    """
    if name.isascii() or unicodedata.normalize("NFC", name) not in known:
        return ""
    form = next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)), "neither NFC nor NFD")
    return f"; a name that looks the same exists, in another Unicode normalisation (this one is {form})"


def escape(line: str) -> str:
    r"""Replaces unsafe characters by escapes such as \x1b, for a terminal."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], line)


def quote(name: str) -> str:
    """Returns a name for an error: unchanged, or with quotes and escapes if a part of it would be invisible."""
    plain = name.isprintable() and name == name.strip() and name
    return str(name) if plain else repr(str(name))


def shorten(name: str) -> str:
    """Quotes the start of a long text: a stray quote can turn half a CSV into one field."""
    return quote(name if len(name) <= SHOWN_LENGTH else name[:SHOWN_LENGTH] + "...")


def escape_json(text: str) -> str:
    """Escapes unsafe characters in JSON, for a terminal; the value stays the same."""
    return UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def escape_markdown(name: str) -> str:
    """Escapes the special characters of Markdown."""
    return MARKDOWN.sub(r"\\\g<0>", name)

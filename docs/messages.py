"""Collects the messages of ffdi for the catalogues of its translations, ffdi/translations/*.po.

    python docs/messages.py

adds the messages that a catalogue lacks, without a translation, and removes those that the code no longer has. A
message is a string of several words in the code that is no docstring; in an f-string, {0}, {1}, ... stand for the
values. Further messages: the first line of each command, the texts of the templates, and the single words of `WORDS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polib
from jinja2 import Environment

from ffdi.core.translation import FOLDER

PROJECT = Path(__file__).resolve().parent.parent
NOT_SHOWN = (
    *("demo/*", "translations/*", "inference/onnx_safety.py", "core/links.py", "models/unpickle.py"),
    *("submission/kaggle_bundle.py", "export/standalone.py"),
)
"""Files whose strings no person reads as messages: they draw, check, or write programs and notebooks."""
NO_MESSAGE = re.compile(
    r"^[^A-Za-z]*$|^[\w./*-]+$|https?://|[<>]{2}|\\[dws]|^--|^import |^invoke |^pip |^bold |^PRAGMA "
)
SINGLE = """
error: stopped warning: next: written:
real fake pseudo-fake images fold folds split groups fakes experiment submission epoch trial name state
accuracy difference interval loss recall precision threshold bootstrap against itself gap stress min p
waiting starting training finished unreadable ok left eyes mouth background libraries commit params
Scores Comparison Agreement Data Origin
"""
WORDS = (*SINGLE.split(), "{0}; {1}", "{0}, {1}", "{0}: {1}", "{0} ({1})")
"""Labels, headings and states of one word, and how messages are put together."""
COUNTS = ("format_count", "format_are")
"""Functions that put a number before a noun."""


class Count(NamedTuple):
    """A message that is a number with a noun, in both forms."""

    one: str
    several: str


Message = str | Count


def list_messages() -> list[Message]:
    """All messages, in the order of the files."""
    found: dict[Message, None] = dict.fromkeys(WORDS)
    for path in [*sorted((PROJECT / "ffdi").rglob("*.py")), PROJECT / "tasks.py"]:
        if not any(path.match(f"ffdi/{pattern}") for pattern in NOT_SHOWN):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= dict.fromkeys(_list_strings(tree))
            if path.name == "tasks.py":
                found |= dict.fromkeys(_list_commands(tree))
    for path in sorted((PROJECT / "ffdi" / "pages").glob("*.j2")) + sorted((PROJECT / "ffdi" / "pages").glob("*.js")):
        found |= dict.fromkeys(_list_template_messages(path.read_text(encoding="utf-8")))
    return list(found)


def _list_strings(tree: ast.Module) -> Iterator[Message]:
    hidden = set(_list_hidden(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            hidden |= {id(part) for part in node.values}
            hidden |= {id(part.format_spec) for part in node.values if isinstance(part, ast.FormattedValue)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COUNTS:
            yield from _list_counts(node)
        if id(node) in hidden:
            continue
        if isinstance(node, ast.JoinedStr):
            message = _number_values(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            message = node.value
        else:
            continue
        if _is_message(message):
            yield message


def _list_hidden(tree: ast.Module) -> Iterator[int]:
    """The docstrings, also those below variables and fields, and the names of types in annotations."""
    for node in ast.walk(tree):
        for one in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant | ast.JoinedStr):
                yield id(one.value)
        for name in ("annotation", "returns"):
            if (part := getattr(node, name, None)) is not None:
                yield from map(id, ast.walk(part))


def _list_counts(node: ast.Call) -> Iterator[Count]:
    """Both forms of a noun with its number."""
    before = {"format_count": ("", ""), "format_are": ("is ", "are ")}[ast.unparse(node.func)]
    for noun in [one.value for one in node.args[1:] if isinstance(one, ast.Constant)]:
        yield Count(f"{before[0]}{{0}} {noun}", f"{before[1]}{{0}} {noun}s")


def _number_values(node: ast.JoinedStr) -> str:
    parts, number = [], 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            parts.append(f"{{{number}}}")
            number += 1
    return "".join(parts)


def _is_message(text: str) -> bool:
    """Whether a string has several words, or a word beside a value."""
    words = re.sub(r"\{\d+\}", " ", text)
    return len(re.findall(r"[A-Za-z]{2,}", words)) > 0 and " " in text.strip() and not NO_MESSAGE.search(text)


def _list_commands(tree: ast.Module) -> Iterator[str]:
    """The first lines of the commands."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            yield (ast.get_docstring(node) or "").partition("\n")[0]


def _list_template_messages(text: str) -> Iterator[str]:
    environment = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    environment.policies["ext.i18n.trimmed"] = True
    for _, _, message in environment.extract_translations(text):
        if isinstance(message, str):
            yield message


def update(path: Path) -> tuple[int, int]:
    """Brings a catalogue up to date; returns the numbers of its messages and of those without a translation."""
    known = {entry.msgid: entry for entry in polib.pofile(str(path))} if path.is_file() else {}
    catalogue = polib.POFile(wrapwidth=120)
    catalogue.metadata = {
        "Content-Type": "text/plain; charset=utf-8",
        "Language": path.stem,
        "Plural-Forms": "nplurals=1; plural=0;",
    }
    for message in list_messages():
        before = known.get(message.one if isinstance(message, Count) else message, polib.POEntry())
        if isinstance(message, Count):
            forms = {0: before.msgstr_plural.get(0, before.msgstr)}
            catalogue.append(polib.POEntry(msgid=message.one, msgid_plural=message.several, msgstr_plural=forms))
        else:
            catalogue.append(polib.POEntry(msgid=message, msgstr=before.msgstr))
    catalogue.save(str(path))
    return len(catalogue), len(catalogue.untranslated_entries())


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.po")):
        messages, missing = update(path)
        print(f"{path.relative_to(PROJECT)}: {messages} messages, {missing} without a translation")

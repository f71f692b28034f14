"""Writes commands.md, beside this file, from the verbs themselves: python docs/commands.py"""

from __future__ import annotations

import sys
from pathlib import Path

from invoke import Collection, Task

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import tasks  # noqa: E402

HEAD = """# Every verb and its flags

Written by `python docs/commands.py` from `tasks.py`; a test compares the two. Each is called as `invoke VERB --flag
value`, several can stand in one command (`invoke train-folds ensemble-submit`), and `invoke --help VERB` says the same.

Every verb ends with exit code 0; with 1 and an error that says what is wrong, where, and the next command; with 130
after Ctrl-C, 143 after SIGTERM, and 75 when the time of `--max-time` is over. (`serve` runs until it is stopped: with 0
after either signal.) Every verb takes these two as well:

- `--quiet` says nothing but warnings and errors;
- `--json` says all in one line of JSON, whatever happens: `verb`, `error` (null, or `what`, `problems` and `next`),
  `written` (files), `next`, `warnings`, `lines`, and `tables` (`heading`, `columns`, `rows`), whose numbers are not
  rounded.

`serve` alone says something before its end, which is where it listens: a line of JSON with `verb` and `url`, or with
`--quiet` the address alone.
"""


def text() -> str:
    """The whole file."""
    verbs = Collection.from_module(tasks).tasks
    return "\n".join([HEAD, *(section(name, verbs[name]) for name in sorted(verbs))])


def section(name: str, verb: Task) -> str:
    """A verb's heading, its one line, and a table of its flags."""
    rows = ["| flag | default | |", "|---|---|---|"]
    for flag in verb.get_arguments():
        if flag.name in tasks.MANNERS:
            continue
        word = f"`--{flag.name.replace('_', '-')}`"
        default = f"`{flag.default}`" if flag.default and flag.kind is str else ""
        rows.append(f"| {word} | {default} | {(flag.help or '').replace('|', '/')} |")
    return "\n".join([f"## {name}\n", f"{(verb.__doc__ or '').strip()}\n", *rows, ""])


if __name__ == "__main__":
    (HERE / "commands.md").write_text(text(), encoding="utf-8")

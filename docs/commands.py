"""Writes commands.md, in the folder of this file, from the commands themselves: python docs/commands.py"""

from __future__ import annotations

import sys
from pathlib import Path

from invoke import Collection, Task

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import tasks  # noqa: E402
from ffdi.core import cli  # noqa: E402

HEAD = """# Every command and its flags

Written by `python docs/commands.py` from `tasks.py`; a test compares the two. Call each command as
`invoke COMMAND --flag value`. Several commands can follow each other in one line
(`invoke train-folds ensemble-submit`). `invoke --help COMMAND` prints the same text.
[notebook.md](notebook.md) has the functions that call these commands.

The exit code of every command is 0 for success; 1 for an error, with a message that says what is wrong, where, and the
next command; 130 after Ctrl-C; 143 after SIGTERM; and 75 at the end of `--max-time`. (`serve` and `report --live` run
until they are stopped, and their exit code after either signal is 0.) Every command has two more flags:

- `--quiet` prints only warnings and errors;
- `--json` prints one line of JSON in every case: `command`, `error` (null, or `what`, `problems` and `next`), `written`
  (files), `next`, `warnings`, `lines`, `tables` (`heading`, `columns`, `rows`), with numbers that are not rounded, and
  `values` (the keys of `config.toml` that `find-lr` and `sweep` suggest).

Only `serve` and `report --live` print something before their end: a line of JSON with `command` and `url` (`serve`,
when it listens) or `page` (`report --live`, when its page is written), or with `--quiet` the address or path alone.
"""


def text() -> str:
    """The whole file."""
    commands = Collection.from_module(tasks).tasks
    return "\n".join([HEAD, *(section(name, commands[name]) for name in sorted(commands))])


def section(name: str, command: Task) -> str:
    """A command's heading, its one line, and a table of its flags."""
    rows = ["| flag | |", "|---|---|"]
    for flag in sorted(command.get_arguments(), key=lambda flag: (not flag.positional, flag.name)):
        if flag.name not in cli.OutputOptions.__dataclass_fields__:
            shown = flag.name.upper() if flag.positional else f"--{flag.name.replace('_', '-')}"
            rows.append(f"| `{shown}` | {flag.help.replace('|', '/')} |")
    return "\n".join([f"## {name}\n", f"{(command.__doc__ or '').strip()}\n", *(rows if len(rows) > 2 else []), ""])


if __name__ == "__main__":
    (HERE / "commands.md").write_text(text(), encoding="utf-8")

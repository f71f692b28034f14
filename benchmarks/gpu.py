"""Claims: on a CUDA device ffdi trains the same weights bit by bit each time, killed and resumed too; its steps never
wait for the device; memory that is short ends in one sentence, or in smaller parts; training takes images as fast as
the device computes; an exported graph gives torch's scores there, at torch's speed or above, with no node on the CPU.

    python benchmarks/gpu.py [STEP ...] [--cpu] > gpu.jsonl

STEP is one or more of env, bits, sync, oom, ranks, train, loader, export, infer; without a STEP, all in this order. A
step takes less than ten minutes and has a process of its own: an error of the device, or a crash, ends that step only.
Standard output is one line of JSON for each fact; after each step, its table goes to standard error. The exit status is
1 if a check has failed, and the last lines name the steps. All images are drawn here, all weights start from random
numbers, and the checkout needs no installation and no network.

--cpu rehearses all steps at toy size on the CPU, with the same code. Its facts have "rehearsal": true; they are no
measurements. Three things are replaced there: `sync` finds values that Python reads from tensors, because only CUDA can
report a wait; `oom` limits the memory of the process in place of a card's; `infer` uses the runtimes of the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gpu_steps import processes
from gpu_steps.run import MODULES, Fact, prepare_imports, run_step

from ffdi.core import cuda
from ffdi.core.errors import ConfigError, DeviceError, FFDIError, suggest_nearest

SECONDS = 590
"""The time limit of a step."""


def main() -> int:
    """Runs the steps; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(MODULES)}; default: all")
    parser.add_argument("--cpu", action="store_true", help="rehearse at toy size on the CPU")
    asked = parser.parse_args()
    prepare_imports()
    try:
        steps = choose_steps(asked.steps)
        if not asked.cpu and cuda.query_driver() is None:
            raise DeviceError("there is no CUDA device", hint="python benchmarks/gpu.py --cpu rehearses on the CPU")
    except FFDIError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ffdi-gpu-", ignore_cleanup_errors=True) as root:
        failed = [step for step in steps if not measure(step, asked.cpu, Path(root))]
    print(f"failed: {', '.join(failed)}" if failed else f"all is well: {', '.join(steps)}", file=sys.stderr)
    return 1 if failed else 0


def choose_steps(words: list[str]) -> list[str]:
    """The steps in the order in which they are named; all without a name.

    Raises:
        ConfigError: there is no such step.
    """
    for word in words:
        if word not in MODULES:
            raise ConfigError(f"unknown step '{word}': {suggest_nearest(word, MODULES)}")
    return list(dict.fromkeys(words)) or list(MODULES)


def measure(step: str, cpu: bool, root: Path, seconds: float = SECONDS) -> bool:
    """Runs a step, prints its facts as they come and then its table; whether no check has failed."""
    facts: list[Fact] = []

    def receive(fact: Fact) -> None:
        facts.append(fact)
        print(json.dumps({**fact, **({"rehearsal": True} if cpu else {})}, allow_nan=False), flush=True)

    started = time.monotonic()
    if fault := processes.call(run_step, (step, cpu, root), seconds, receive):
        receive({"step": step, "figure": "the step", "value": fault, "ok": False})
    receive({"step": step, "figure": "seconds", "value": round(time.monotonic() - started, 1)})
    print(format_table(f"{step}{' (rehearsal on a CPU)' if cpu else ''}", facts), file=sys.stderr, flush=True)
    return all(fact.get("ok") is not False for fact in facts)


def format_table(title: str, facts: list[Fact]) -> str:
    """A line for each fact: whether it is a check that has passed or failed, the figure, its value, range and note."""
    wide = max((len(fact["figure"]) for fact in facts), default=0)
    lines = [f"== {title}"]
    for fact in facts:
        mark = {True: "ok", False: "FAILED", None: ""}[fact.get("ok")]
        value = "-" if fact["value"] is None else str(fact["value"])
        spread = f" ({fact['low']} to {fact['high']})" if "low" in fact else ""
        rest = [value + spread, *(str(fact[key]) for key in ("note", "place") if fact.get(key))]
        lines.append(f"{mark:6}  {fact['figure']:{wide}}  {'; '.join(rest)}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())

"""Claim: a graph that loops or swells is refused within the time and memory that its size explains, and leaves the
calling process unchanged; graphs that ffdi exports pass.

    python benchmarks/hostile_graphs.py [MODEL.onnx ...]

vets four hostile graphs as `predict-onnx` and `serve` do (8 GB of folded constants; 8 GB for a batch of three images
alone; 60 million nodes in a file of 120 MB; products of constants without end), and then the graphs that are named.
Prints for each the verdict, the seconds, the peak memory of the child and of its parent, and the bounds. Takes two
minutes, and up to 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from ffdi.core.errors import ExperimentError
from ffdi.inference import onnx_safety
from tests.inference.test_onnx_safety import SIZE, crowded, endless, folded, for_three

HOSTILE = {"folded": folded, "for three": for_three, "crowded": lambda: crowded(60_000_000), "endless": endless}
ONE = "--one"
"""Asks for one graph, in a process with fresh memory."""


def vetted(path: Path) -> dict[str, Any]:
    """What comes of one graph."""
    size = SIZE
    if path.parent.name != "hostile":
        size = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    before, start, verdict = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), "passed"
    try:
        onnx_safety.check_graph(path, size)
    except ExperimentError as error:
        verdict = error.what.removeprefix(f"{path} ")
    seconds = time.perf_counter() - start
    own, child = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    bounds = onnx_safety.compute_bounds(path.stat().st_size, size)
    return {
        "verdict": verdict,
        "seconds": seconds,
        "child": child.ru_maxrss / 1024,
        "parent": (own.ru_maxrss - before) / 1024,
        "bounds": (bounds.seconds, bounds.memory / 2**20),
    }


def check_graph(path: Path) -> None:
    """Prints what comes of one graph."""
    words = [sys.executable, __file__, ONE, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    seconds, memory = found["bounds"]
    print(
        f"{path.name}, {path.stat().st_size / 1e6:.1f} MB: {found['verdict']}; "
        f"{found['seconds']:.1f} s of {seconds:.0f}, "
        f"child {found['child']:.0f} MiB of {memory:.0f} and its imports, parent {found['parent']:+.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Prints a line for each graph."""
    if sys.argv[1:2] == [ONE]:  # the child
        print(json.dumps(vetted(Path(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", nargs="*", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "hostile"
        place.mkdir()
        for name, make in HOSTILE.items():
            path = place / f"{name}.onnx"
            path.write_bytes(make())
            check_graph(path)
            path.unlink()
    for given in asked.graph:
        check_graph(given.resolve())


if __name__ == "__main__":
    main()

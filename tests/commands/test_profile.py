"""invoke train-folds --profile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ffdi.training.inputs import AUGMENTATION, DECODING, RESIZING
from ffdi.training.loop import PARTS
from ffdi.training.tools.profiler import OPERATORS, WAITING
from tests.conftest import Invoke


@pytest.mark.parametrize("device", [False, True])
def test_a_step_is_taken_apart_and_nothing_is_trained(
    device: bool, workspace: Path, competition: Path, invoke: Invoke
) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(path.read_text().replace("[augment]\n", f"[augment]\ndevice = {str(device).lower()}\n"))
    missing = {DECODING} if device else {DECODING, RESIZING, AUGMENTATION}
    expected = [WAITING, *(part for part in PARTS if part not in missing)]
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--profile")
    assert (answer.code, answer.err) == (0, "")
    rows = re.findall(r"│ (.+?) +│ +([0-9.]+) │ +([0-9.]+) % │", answer.out)
    parts = {name: float(share) for name, _, share in rows[: len(expected)]}
    assert list(parts) == expected
    assert abs(sum(parts.values()) - 100) < 1
    assert parts["forward"] > 1
    assert parts["loss and backward"] > 1
    operators = rows[len(expected) :]
    assert len(operators) == OPERATORS
    assert [float(ms) for _, ms, _ in operators] == sorted((float(ms) for _, ms, _ in operators), reverse=True)
    limit = r"the cores, which make images \d+ % of the time, and train the network in the rest"
    assert re.search(rf"\n[0-9.]+ images/s without the profiler\nlimit: {limit}", answer.out)
    tiny = workspace / "experiments" / "tiny"
    assert answer.out.endswith(
        f"written: {tiny / 'trace.json'}, to be opened in chrome://tracing or Perfetto\n"
        f"next: invoke train-folds --experiment tiny --data {competition}\n"
    )
    trace = json.loads((tiny / "trace.json").read_text())
    assert set(expected) <= {event.get("name") for event in trace["traceEvents"]}
    assert {path.name for path in tiny.iterdir()} == {"config.toml", "doctor.json", "trace.json", ".lock"}
    answer = invoke("verify", "--experiment", "tiny")  # the trace is no file of ours
    assert (answer.code, answer.err) == (0, "")

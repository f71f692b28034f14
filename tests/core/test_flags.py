"""Values of Python for flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.commands.shared.options import ExportOnnxOptions, SweepOptions, TrainFoldsOptions, VerifyOptions
from ffdi.core import flags
from ffdi.core.errors import ConfigError
from ffdi.core.flags import Flag


def find(options: type, name: str) -> Flag:
    return next(one for one in flags.list_flags(options) if one.name == name)


@pytest.mark.parametrize(
    ("options", "name", "value", "field"),
    [
        (TrainFoldsOptions, "experiment", "a", ("a",)),
        (TrainFoldsOptions, "experiment", ["a", Path("b")], ("a", "b")),
        (TrainFoldsOptions, "data", Path("x/y"), "x/y"),
        (TrainFoldsOptions, "folds", [0, 2], "0,2"),
        (TrainFoldsOptions, "folds", 0, "0"),
        (TrainFoldsOptions, "accept", ("leaks", "conflicts"), "leaks,conflicts"),
        (TrainFoldsOptions, "jobs", 2, 2),
        (TrainFoldsOptions, "jobs", "2", 2),
        (TrainFoldsOptions, "restart", True, True),
        (TrainFoldsOptions, "restart", False, False),
        (ExportOnnxOptions, "runtimes", ["cpu", "openvino"], "cpu,openvino"),
        (VerifyOptions, "experiment", [], ()),
    ],
)
def test_a_value_of_python_becomes_that_of_the_flag(options: type, name: str, value: object, field: object) -> None:
    flag = find(options, name)
    assert flag.parse(flag.spell(value)) == field


@pytest.mark.parametrize(
    ("options", "name", "value", "expected"),
    [
        (TrainFoldsOptions, "restart", "yes", "restart='yes': not True or False"),
        (TrainFoldsOptions, "restart", 1, "restart=1: not True or False"),
        (TrainFoldsOptions, "jobs", True, "jobs=True: not a number"),
        (TrainFoldsOptions, "data", ["a", "b"], "data=['a', 'b']: not one value"),
        (TrainFoldsOptions, "device", {"a": 1}.values, "not a str or a path"),
        (SweepOptions, "experiment", [], "experiment=[]: not one value"),
    ],
)
def test_a_value_of_another_type_is_refused(options: type, name: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(options, name).spell(value)
    assert expected in str(caught.value)
    assert find(options, name).help in caught.value.hint


def test_a_number_out_of_range_is_refused_as_on_the_command_line() -> None:
    jobs = find(TrainFoldsOptions, "jobs")
    with pytest.raises(ConfigError, match=r"^--jobs 0: not 1 or more"):
        jobs.parse(jobs.spell(0))

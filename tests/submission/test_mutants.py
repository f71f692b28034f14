"""Every mutant is refused, or is proven to say the same by a reader that shares nothing with the gate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ffdi.core import names
from ffdi.core.errors import SubmissionError
from ffdi.submission import gate
from ffdi.submission.gate import Direction, Template
from tests.submission import mutants

TEXTS = mutants.of_text()
ARRAYS = mutants.of_arrays()


def refused(attempt: Callable[[], object]) -> bool:
    """Whether it is refused, with an error that names a fault and can be printed; any other error reaches the test."""
    try:
        attempt()
    except SubmissionError as error:
        refusal = error
    else:
        return False
    assert refusal.problems
    assert str(refusal).encode()
    return True


def check(base: mutants.Base, content: str) -> None:
    gate.check_submission_text(content, Template(base.names, base.names), np.array(base.names), base.y_pred)


def test_there_are_more_than_500_reproducible_mutants() -> None:
    assert len({(one.base.title, one.content) for one in TEXTS}) == len(TEXTS) > 500
    assert len(ARRAYS) > 500
    assert [one.content for one in mutants.of_text()] == [one.content for one in TEXTS]
    assert {one.kind for one in TEXTS} == set(mutants.KINDS)


@pytest.mark.parametrize("base", mutants.bases(), ids=lambda base: base.title)
def test_the_bases_are_submissions_of_the_gate(base: mutants.Base) -> None:
    direction = Direction(base.y_pred, {})
    assert (
        gate.build_submission(Template(base.names, base.names), np.array(base.names), base.y_pred, direction).content
        == base.content
    )
    assert mutants.harmless(base.content, base.names, base.y_pred)


@pytest.mark.parametrize("kind", mutants.KINDS)
def test_every_text_mutant_is_refused_or_equivalent(kind: str) -> None:
    for one in TEXTS:
        if one.kind == kind and not refused(lambda one=one: check(one.base, one.content)):
            assert mutants.harmless(one.content, one.base.names, one.base.y_pred), (one.base.title, one.content)
            assert list(mutants.read(one.content) or {}) == one.base.names


@pytest.mark.parametrize("kind", sorted({one.kind for one in ARRAYS}))
def test_every_array_mutant_is_refused_or_correct(kind: str) -> None:
    for one in ARRAYS:
        if one.kind != kind:
            continue
        direction = Direction(one.reference, {"tiny": 0.9})
        built: list[gate.Submission] = []
        attempt = lambda one=one, direction=direction, built=built: built.append(  # noqa: E731
            gate.build_submission(Template(one.expected, one.expected), one.img_name, one.y_pred, direction)
        )
        if not refused(attempt):
            assert mutants.lawful(one)
            assert mutants.harmless(built[0].content, one.img_name.tolist(), one.y_pred)
            assert list(mutants.read(built[0].content) or {}) == one.expected


def test_valid_scores_are_refused_only_for_names_or_direction() -> None:
    reasons = set()
    for one in filter(mutants.lawful, ARRAYS):
        try:
            gate.build_submission(
                Template(one.expected, one.expected), one.img_name, one.y_pred, Direction(one.reference, {})
            )
        except SubmissionError as error:
            fault = names.find_fault(one.expected[-1])
            why = fault if fault and error.problems[0].endswith(fault) else error.problems[0]
            reasons.add((one.kind, why.partition(":")[0]))
    assert reasons == {
        ("a name and the template's", "has a control character"),
        ("a name and the template's", "has a character that hides or reorders text"),
        ("scores turned around", "the scores are turned around"),
    }

"""Waiting until a condition holds."""

import pytest

from rankzero.waiting import wait_until


def test_the_first_true_answer_ends_the_waiting():
    answers = iter([None, 0, "yes", "no"])
    assert wait_until(lambda: next(answers), timeout=240.0, every=0.001) == "yes"


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.01])
def test_a_condition_is_called_at_least_once(timeout):
    asked = []
    assert wait_until(lambda: asked.append(1), timeout, every=0.001) is None
    assert asked

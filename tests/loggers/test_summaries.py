"""The summaries that a definition requests, and the definition that applies to a metric."""

import pytest

from rankzero.loggers.summaries import find_definition, kinds_of


@pytest.mark.parametrize(
    ("summary", "goal", "kinds"),
    [
        (None, None, None),
        ("min", None, ("min",)),
        ("min, mean", "maximize", ("min", "mean")),
        (None, "minimize", ("min",)),
        ("best", "maximize", ("max",)),
        ("none", None, ()),
    ],
)
def test_kinds(summary, goal, kinds):
    assert kinds_of(summary, goal) == (kinds, None)


@pytest.mark.parametrize(
    ("summary", "goal", "kinds", "problem"),
    [
        ("best", None, None, 'summary="best" needs a goal'),
        (None, "up", None, "goal='up' is neither minimize nor maximize"),
        ("median", None, None, "there is no summary median"),
        ("median,min,p99", None, ("min",), "there is no summary median, p99"),
    ],
)
def test_problems(summary, goal, kinds, problem):
    assert kinds_of(summary, goal) == (kinds, problem)


@pytest.mark.parametrize(
    ("metric", "defined"),
    [
        ("loss", "loss"),
        ("val/acc", "val/*"),
        ("val/loss", "val/loss"),
        ("test/loss", "*/loss"),
        ("a[0]", "a[0]"),
        ("a0", None),
        ("val", None),
    ],
)
def test_a_name_counts_more_than_a_pattern_and_a_later_pattern_more_than_an_earlier_one(metric, defined):
    assert find_definition(metric, ["val/loss", "*/loss", "v*/*", "val/*", "loss", "a[0]"]) == defined

"""`merge_dicts`, and what `Logger.agg_and_log_metrics` does with several calls for one step."""

import subprocess
import sys

import numpy as np
import pytest

from rankzero import merge_dicts
from rankzero.loggers.aggregate import StepAggregator, mean


def test_nested_dictionaries_and_functions_by_key():
    dicts = [
        {"a": 1.7, "b": 2.0, "c": 1, "d": {"d1": 1, "d3": 3}},
        {"a": 1.1, "b": 2.2, "v": 1, "d": {"d1": 2, "d2": 3}},
        {"a": 1.1, "v": 2.3, "d": {"d3": 3, "d4": {"d5": 1}}},
    ]
    merged = merge_dicts(dicts, {"a": np.mean, "v": max, "d": {"d1": sum}}, min)
    assert merged == {
        "a": pytest.approx(1.3),
        "b": 2.0,
        "c": 1,
        "d": {"d1": 3, "d2": 3, "d3": 3, "d4": {"d5": 1}},
        "v": 2.3,
    }


def test_mean_is_the_default():
    assert merge_dicts([{"a": 1, "b": 2.5}, {"a": 2}]) == {"a": 1.5, "b": 2.5}


def test_none_and_missing_values_do_not_count():
    assert merge_dicts([{"a": None, "b": None}, {"a": 4.0}, {"a": 2.0, "c": 0}], None, mean) == {"a": 3.0, "c": 0}


def test_no_dictionaries():
    assert merge_dicts([]) == {}


def test_the_dictionaries_are_unchanged():
    dicts = [{"d": {"a": 1}}, {"d": {"a": 3}}]
    assert merge_dicts(dicts) == {"d": {"a": 2.0}}
    assert dicts == [{"d": {"a": 1}}, {"d": {"a": 3}}]


def test_mean_of_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    assert mean([np.array([1.0, 2.0]), np.array([3.0, 4.0])]).tolist() == [2.0, 3.0]
    assert mean([torch.tensor(1.0), torch.tensor(2.0)]) == 1.5


def test_first_step_is_the_one_after_minus_one():
    aggregator = StepAggregator()
    assert aggregator.add({"a": 1.0}, -1) is None
    assert aggregator.add({"a": 2.0}, -1) is None
    assert aggregator.take() == (-1, {"a": 1.5})


def test_single_dictionary_is_not_touched():
    def refuse(values):
        raise AssertionError("called for one dictionary")

    aggregator = StepAggregator({"a": refuse}, refuse)
    metrics = {"a": [1], "b": None, "c": "text"}
    aggregator.add(metrics, 0)
    step, finished = aggregator.take()
    assert (step, finished) == (0, metrics)
    assert finished is not metrics, "the caller may change its own later"


def test_functions_are_added_and_the_default_replaced_if_given():
    aggregator = StepAggregator({"a": max, "b": min}, sum)
    aggregator.update_funcs({"b": max}, None)
    for value in (1.0, 2.0):
        aggregator.add(dict.fromkeys("abc", value), 0)
    assert aggregator.take() == (0, {"a": 2.0, "b": 2.0, "c": 3.0})
    aggregator.update_funcs(None, min)
    for value in (1.0, 2.0):
        aggregator.add(dict.fromkeys("abc", value), 0)
    assert aggregator.take() == (0, {"a": 2.0, "b": 2.0, "c": 1.0})


@pytest.mark.slow
def test_tensors_without_a_value_are_not_added_up():
    """That would import torch's compiler, which took a log call 6 seconds."""
    code = """if True:
        import sys, torch
        from rankzero import merge_dicts
        metrics = {"a": torch.ones(1, device="meta"), "b": 1.0}
        before = set(sys.modules)
        assert merge_dicts([metrics, metrics])["b"] == 1.0
        assert not set(sys.modules) - before
    """
    subprocess.run([sys.executable, "-c", code], check=True)

"""Each kind of logged value, from the log call to the decoded journal."""

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import math
import pathlib
import types
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import msgspec
import numpy as np
import omegaconf
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_values import Gone, Hostile, Word, same
from recorded import events_in

import rankzero
from rankzero.events.structs import Artifact, Metrics, Params, Text, decode, encode
from rankzero.loggers.dispatch import dispatch
from rankzero.rundir.layout import JOURNAL
from rankzero.values import split_metrics, to_jsonable, to_number


@pytest.fixture
def run(tmp_path):
    with rankzero.start(dir=tmp_path, delivery="off") as run:
        yield run


def logged(run, value):
    """Return what a reader finds of one metric."""
    run.log_metrics({"m": value}, 3)
    (row,) = events_in(run.dir, Metrics)
    assert row.step == 3
    return row.numbers()["m"]


class Score(float):
    pass


class Level(enum.IntEnum):
    HIGH = 3


class Addable:
    """Adds up to a float, and is none."""

    def __radd__(self, other):
        return float(other)


NUMBERS = {
    "int": (7, 7),
    "negative int": (-7, -7),
    "int beyond int64": (2**63, 2**63),
    "int beyond uint64": (2**64 + 1, 2**64 + 1),
    "int of 1,000 digits": (10**1000, 10**1000),
    "int of 5,000 digits": (10**5000, math.inf),
    "negative int of 5,000 digits": (-(10**5000), -math.inf),
    "float": (0.1, 0.1),
    "integral float": (1.0, 1.0),
    "subnormal": (5e-324, 5e-324),
    "negative zero": (-0.0, -0.0),
    "largest float": (1.7976931348623157e308, 1.7976931348623157e308),
    "NaN": (math.nan, math.nan),
    "Infinity": (math.inf, math.inf),
    "-Infinity": (-math.inf, -math.inf),
    "True": (True, 1),
    "False": (False, 0),
    "float subclass": (Score(0.5), 0.5),
    "IntEnum": (Level.HIGH, 3),
    "Decimal": (Decimal("0.1"), 0.1),
    "Decimal NaN": (Decimal("NaN"), math.nan),
    "Decimal sNaN": (Decimal("sNaN"), math.nan),
    "huge Decimal": (Decimal("-1e400"), -math.inf),
    "Fraction": (Fraction(1, 3), 1 / 3),
    "huge Fraction": (Fraction(10**400, 3), math.inf),
    "huge negative Fraction": (Fraction(-(10**400), 3), -math.inf),
    "np.bool_": (np.bool_(True), 1),
    "np.int8": (np.int8(-128), -128),
    "np.int16": (np.int16(-32768), -32768),
    "np.int32": (np.int32(-(2**31)), -(2**31)),
    "np.int64": (np.int64(-(2**63)), -(2**63)),
    "np.uint8": (np.uint8(255), 255),
    "np.uint64": (np.uint64(2**64 - 1), 2**64 - 1),
    "np.float16": (np.float16(0.1), 0.0999755859375),
    "np.float32": (np.float32(0.1), 0.10000000149011612),
    "np.float64": (np.float64(0.1), 0.1),
    "np.float32 NaN": (np.float32("nan"), math.nan),
    "np.longdouble": (np.longdouble(1) / 3, 1 / 3),
    "huge np.longdouble": (np.longdouble("1e4000"), math.inf),
    "0-d array": (np.array(0.25), 0.25),
    "array of one": (np.array([[3]]), 3),
    "object array of one": (np.array([Decimal("0.5")], dtype=object), 0.5),
    "0-d tensor": (torch.tensor(0.5), 0.5),
    "tensor of one": (torch.tensor([[0.5]]), 0.5),
    "tensor with grad": (torch.tensor(0.5, requires_grad=True) * 2, 1.0),
    "NaN tensor": (torch.tensor(math.nan), math.nan),
    "sparse tensor": (torch.tensor([2.0]).to_sparse(), 2.0),
    "parameter": (torch.nn.Parameter(torch.tensor(2.0)), 2.0),
}


@pytest.mark.parametrize(("value", "expected"), NUMBERS.values(), ids=NUMBERS)
@pytest.mark.filterwarnings("error")
def test_numbers_are_kept_exactly(run, value, expected):
    found = logged(run, value)
    assert same(found, expected) or (math.isnan(expected) and math.isnan(found))


INTS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64", *(name for name in dir(torch) if name.startswith("float8_")))


@pytest.mark.parametrize("dtype", [*INTS, *FLOATS])
def test_tensor_of_every_dtype(run, dtype):
    dtype = getattr(torch, dtype)
    expected = 1.0 if dtype.is_floating_point else 1
    assert same(logged(run, torch.ones(1).to(dtype)), expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, 0.10009765625), (torch.float16, 0.0999755859375), (torch.float8_e5m2, 0.09375)],
)
def test_narrow_float_is_widened_exactly(run, dtype, expected):
    assert logged(run, torch.tensor(0.1).to(dtype)) == expected


def test_int64_tensor_is_not_rounded_to_a_float(run):
    assert logged(run, torch.tensor(2**53 + 1)) == 2**53 + 1


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.floats() | st.integers() | st.booleans(), min_size=1))
def test_any_python_numbers_survive(values):
    numbers = decode(encode(Metrics(0.0, 1, values))).numbers()
    assert list(numbers) == list(values)
    for key, value in values.items():
        expected = int(value) if isinstance(value, bool) else value
        assert same(numbers[key], expected) or (math.isnan(expected) and math.isnan(numbers[key]))


NO_NUMBERS = {
    "str": ("warm-up", "warm-up"),
    "str that looks like NaN": ("NaN", "NaN"),
    "list": ([1, 2], [1, 2]),
    "nested list": ([[1, math.nan]], [[1, "NaN"]]),
    "tuple": ((1, "a"), [1, "a"]),
    "array": (np.array([1.5, math.inf]), [1.5, "Infinity"]),
    "tensor": (torch.tensor([1, 2]), [1, 2]),
    "bfloat16 tensor": (torch.ones(2, dtype=torch.bfloat16), [1.0, 1.0]),
    "empty array": (np.array([]), []),
    "complex": (1 + 2j, "(1+2j)"),
    "complex tensor": (torch.tensor(1 + 2j), "(1+2j)"),
    "bytes": (b"\xff", "/w=="),
    "date": (datetime.date(2026, 1, 2), "2026-01-02"),
    "datetime64": (np.datetime64("2026-01-02"), "2026-01-02"),
    "class": (dict, "builtins.dict"),
    "lone surrogate": ("\ud800é", "\\ud800é"),
    "np.str_": (np.str_("adam"), "adam"),
    "str subclass": (Word("adam"), "adam"),
    "float8 tensor": (torch.ones(2).to(torch.float8_e4m3fn), [1.0, 1.0]),
    "sparse tensor": (torch.eye(2).to_sparse(), [[1.0, 0.0], [0.0, 1.0]]),
}


@pytest.mark.parametrize(("value", "expected"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_metric_that_is_not_a_number_is_kept_as_text_with_one_warning(run, value, expected):
    with pytest.warns(UserWarning, match=r"'m' is not a single number .*kept as text"):
        run.log_metrics({"m": value, "loss": 0.5}, 3)
    run.log_metrics({"m": value, "loss": 0.5}, 4)  # a second warning would be an error
    first, second = events_in(run.dir, Text)
    assert (first.key, first.step, first.data, second.step) == ("m", 3, [[expected]], 4)
    assert [row.numbers() for row in events_in(run.dir, Metrics)] == [{"loss": 0.5}] * 2


def test_meta_tensor_has_no_value(run):
    with pytest.warns(UserWarning, match="not a single number"):
        run.log_metrics({"m": torch.ones(1, device="meta"), "loss": 0.5}, 3)
    assert "meta" in events_in(run.dir, Text)[0].data[0][0]
    assert events_in(run.dir, Metrics)[0].numbers() == {"loss": 0.5}


def test_none_is_left_out_with_a_warning(run):
    with pytest.warns(UserWarning, match="'m' was None"):
        run.log_metrics({"m": None, "loss": 0.5}, 3)
    assert events_in(run.dir, Metrics)[0].numbers() == {"loss": 0.5}
    assert not events_in(run.dir, Text)


LARGE = np.arange(2000, dtype=np.float32).reshape(2, 1000) % 2


@pytest.mark.parametrize(
    "array",
    [
        LARGE,
        torch.tensor(LARGE),
        torch.tensor(LARGE).to_sparse(),
        torch.tensor(LARGE).to(torch.float8_e5m2),
        torch.tensor(LARGE).bfloat16(),
    ],
    ids=["numpy", "torch", "sparse", "float8", "bfloat16"],
)
def test_large_array_goes_to_a_file(run, array):
    with pytest.warns(UserWarning, match=r"kept as an \.npy file"):
        run.log_metrics({"m": array}, 3)
    (artifact,) = events_in(run.dir, Artifact)
    np.testing.assert_array_equal(np.load(run.dir / artifact.path), LARGE, strict=True)
    assert (artifact.name, artifact.metadata) == ("m", {"step": 3})


BROKEN_VALUES = {
    "hostile": Hostile,
    "gone": Gone,
    "large array of objects": lambda: np.array([object()] * 1001),
    "large meta tensor": lambda: torch.ones(1001, device="meta"),
}


@pytest.mark.parametrize("make", BROKEN_VALUES.values(), ids=BROKEN_VALUES)
def test_broken_object_costs_only_itself(run, make):
    value = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(2):
            run.log_metrics({"m": value, "loss": torch.tensor(0.5), "text": "kept", "n": {Gone(): 1}}, step)
    assert len([each for each in caught if "'m'" in str(each.message)]) == 1
    assert [list(row.numbers().values()) for row in events_in(run.dir, Metrics)] == [[0.5, 1]] * 2
    assert [text.data for text in events_in(run.dir, Text) if text.key == "text"] == [[["kept"]]] * 2


def test_each_loss_is_reported(run):
    for key in ("first", "second"):
        with pytest.warns(UserWarning, match=f"'{key}' could not be recorded"):
            run.log_metrics({key: torch.ones(1001, device="meta")}, 1)


def test_duplicate_keys_are_reported(run):
    with pytest.warns(UserWarning, match="several values for the metric 'a/b'"):
        run.log_metrics({"a/b": 1, "a": {"b": 2}}, 1)
    assert events_in(run.dir, Metrics)[0].numbers() == {"a/b": 2}


def test_class_is_kept_by_its_name(run):
    with pytest.warns(UserWarning, match="kept as text"):
        run.log_metrics({"m": torch.Tensor}, 3)
    assert events_in(run.dir, Text)[0].data == [["torch.Tensor"]]


@pytest.mark.parametrize("context", [{"epoch": 1.0}, {"epoch": "1"}, {"stage": 1}, {"epoch": True}])
def test_context_of_another_type_costs_no_metrics(run, context):
    run.log_metrics({"loss": 0.5}, 3, **context)
    assert [row.numbers() for row in events_in(run.dir, Metrics)] == [{"loss": 0.5}]


def test_a_value_that_can_be_added_to_a_float_is_not_a_number(run):
    with pytest.warns(UserWarning, match="not a single number"):
        run.log_metrics({"m": Addable(), "loss": 0.5}, 3)
    assert events_in(run.dir, Metrics)[0].numbers() == {"loss": 0.5}


def test_nested_mappings_are_flattened(run):
    run.log_metrics({"train": {"loss": 0.5, "top": {1: 0.25}}, "empty": {}}, 3)
    assert events_in(run.dir, Metrics)[0].numbers() == {"train/loss": 0.5, "train/top/1": 0.25}


def test_a_mapping_that_contains_itself_ends(run):
    metrics = {"loss": 0.5}
    metrics["again"] = {"deep": metrics}
    with pytest.warns(UserWarning, match="'again/deep' is not a single number"):
        run.log_metrics(metrics, 3)
    assert events_in(run.dir, Metrics)[0].numbers() == {"loss": 0.5}


@pytest.mark.parametrize("key", ["", "ü/ž 𝔘", "two\nlines", 'a"quote\\', "\x00", "\u2028", "x" * 10_000])
@pytest.mark.parametrize("value", [0.5, math.nan, torch.tensor(0.5)], ids=["plain", "nan", "tensor"])
def test_any_key(run, key, value):
    run.log_metrics({key: value}, 3)
    assert list(events_in(run.dir, Metrics)[0].values) == [key]


def test_lone_surrogate_in_a_key_is_escaped(run):
    run.log_metrics({"\ud800": 0.5}, 3)
    assert events_in(run.dir, Metrics)[0].numbers() == {"\\ud800": 0.5}


@pytest.mark.parametrize("other", [0.25, torch.tensor(0.25)], ids=["plain", "tensor"])
def test_keys_that_are_not_strings(run, other):
    run.log_metrics({1: 0.5, Level.HIGH: 0.25, b"k": 1, 0.5: 1, Word("a"): 1, np.str_("b"): other}, 3)
    run.log_metrics({None: other}, 4)
    assert [list(row.values) for row in events_in(run.dir, Metrics)] == [["1", "3", "aw==", "0.5", "a", "b"], ["None"]]


@pytest.mark.parametrize("step", [5, 5.0, np.int64(5), torch.tensor(5), np.array([5])])
def test_step_of_any_type(run, step):
    run.log_metrics({"loss": 0.5}, step)
    run.log_metrics({"loss": 0.5})
    assert [row.step for row in events_in(run.dir, Metrics)] == [5, 6]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_that_is_too_large_for_a_journal(run, sign):
    step = sign * 10**5000
    with pytest.warns(UserWarning, match="not a whole number, or too large"):
        run.log_metrics({"loss": 0.5}, step, epoch=10**5000)
    run.log_text("note", "kept", step=step)
    assert [(row.step, row.epoch) for row in events_in(run.dir, Metrics)] == [(0, None)]
    assert events_in(run.dir, Text)[0].step is None


# Hyperparameters


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    rate: float = math.nan
    weight: torch.Tensor = dataclasses.field(default_factory=lambda: torch.tensor(0.5))
    level: Level = Level.HIGH
    defaults: ClassVar[int] = 3


class Schedule(enum.Enum):
    COSINE = "cosine"
    STEPS = (1, 2)
    CLASS = dict


class Color(str, enum.Enum):  # noqa: UP042 - as most people write it
    RED = "red"


class Settings(msgspec.Struct):
    size: int = 3
    scale: np.float32 = np.float32(0.5)


class Broken:
    def __repr__(self):
        raise ValueError("no")


HYPERPARAMS = {
    "numbers": ({"a": 1, "b": 0.5, "c": True, "d": None}, {"a": 1, "b": 0.5, "c": True, "d": None}),
    "non-finite": ({"a": math.nan, "b": [math.inf]}, {"a": "NaN", "b": ["Infinity"]}),
    "Namespace": (argparse.Namespace(lr=0.1, inner=argparse.Namespace(x=1)), {"lr": 0.1, "inner": {"x": 1}}),
    "SimpleNamespace": ({"a": types.SimpleNamespace(x=1)}, {"a": {"x": 1}}),
    "dataclass": (Optimizer(), {"name": "adam", "rate": "NaN", "weight": 0.5, "level": 3}),
    "Struct": (Settings(), {"size": 3, "scale": 0.5}),
    "enums": (
        {"a": Schedule.COSINE, "b": Schedule.STEPS, "c": Schedule.CLASS, "d": Color.RED},
        {"a": "cosine", "b": [1, 2], "c": "builtins.dict", "d": "red"},
    ),
    "OmegaConf": (
        omegaconf.OmegaConf.create({"lr": 0.1, "of": "${lr}", "list": [1, {"x": "${lr}"}], "missing": "???"}),
        {"lr": 0.1, "of": 0.1, "list": [1, {"x": 0.1}], "missing": "???"},
    ),
    "OmegaConf with a dead interpolation": (
        {"cfg": omegaconf.OmegaConf.create({"lr": 0.1, "of": "${nowhere}"})},
        {"cfg": {"lr": 0.1, "of": "${nowhere}"}},
    ),
    "OmegaConf list": ({"a": omegaconf.OmegaConf.create([1, 2])}, {"a": [1, 2]}),
    "path": ({"a": pathlib.Path("/data/x")}, {"a": "/data/x"}),
    "path that is no UTF-8": ({"a": pathlib.Path("/data/\udcff")}, {"a": "/data/\\udcff"}),
    "callables": ({"a": math.sin, "b": torch.relu, "c": torch.nn.ReLU}, {"a": "math.sin", "b": None, "c": None}),
    "classes": (
        {"a": torch.Tensor, "b": np.ndarray, "c": dict},
        {"a": "torch.Tensor", "b": "numpy.ndarray", "c": None},
    ),
    "arrays": ({"a": np.arange(3), "b": torch.tensor(2.5), "c": np.float32(0.5)}, {"a": [0, 1, 2], "b": 2.5, "c": 0.5}),
    "dtype": ({"a": torch.bfloat16}, {"a": "torch.bfloat16"}),
    "set": ({"a": {1}, "b": frozenset(["x"])}, {"a": [1], "b": ["x"]}),
    "named tuple": ({"a": collections.namedtuple("P", "x y")(1, 2)}, {"a": [1, 2]}),
    "keys": ({1: "a", (1, 2): "b", None: "c", "\ud800": "d"}, {"1": "a", "(1, 2)": "b", "None": "c", "\\ud800": "d"}),
    "Decimal": ({"a": Decimal("0.5")}, {"a": 0.5}),
    "huge int": ({"a": 10**5000}, {"a": "Infinity"}),
    "date": ({"a": datetime.timedelta(days=1)}, {"a": "P1D"}),
    "np.str_": (
        {"a": np.random.choice(["adam", "adam"]), np.str_("k"): Word("v"), Word("w"): [Word("x")]},
        {"a": "adam", "k": "v", "w": ["x"]},
    ),
    "sparse tensor": ({"a": torch.eye(2).to_sparse()}, {"a": [[1.0, 0.0], [0.0, 1.0]]}),
    "float8 tensor": ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, {"a": [1.0, 1.0]}),
    "broken repr": ({"a": Broken(), "b": 1}, {"a": None, "b": 1}),
    "hostile": ({"a": Hostile(), "b": 1}, {"a": None, "b": 1}),
    "meta tensor": ({"a": torch.ones(2, device="meta"), "b": 1}, {"a": None, "b": 1}),
    "partial": ({"a": functools.partial(math.sin), "b": 1}, {"a": None, "b": 1}),
}


@pytest.mark.parametrize(("params", "expected"), HYPERPARAMS.values(), ids=HYPERPARAMS)
def test_hyperparams(run, params, expected):
    """None in ``expected`` stands for some text, where the value is not None."""
    run.log_hyperparams(params)
    (event,) = events_in(run.dir, Params)
    found = event.values
    for key, value in expected.items():
        if value is None and (not isinstance(params, dict) or params[key] is not None):
            assert isinstance(found[key], str)
            assert found[key]
        else:
            assert found[key] == value
            assert type(found[key]) is type(value)
    assert list(found) == list(expected)


def test_hyperparams_that_contain_themselves(run):
    params = {"a": 1}
    params["self"] = params
    params["list"] = [params]
    node = types.SimpleNamespace()
    node.next = node
    params["node"] = node
    run.log_hyperparams(params)
    (event,) = events_in(run.dir, Params)
    assert event.values["a"] == 1
    assert isinstance(event.values["self"], str)
    assert isinstance(event.values["node"]["next"], str)


def test_containers_that_contain_each_other_end(run):
    """Walked through on all ways, nine lists that hold each other would take minutes, and their text gigabytes."""
    knot, nested = [[] for _ in range(9)], {}
    for each in knot:
        each.extend(knot)
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.log_metrics({"loss": 0.5, "knot": knot}, 3)
    run.log_hyperparams({"lr": 0.1, "knot": knot, "nested": nested})
    assert events_in(run.dir, Metrics)[0].numbers()["loss"] == 0.5
    assert events_in(run.dir, Params)[0].values["lr"] == 0.1
    assert (run.dir / JOURNAL).stat().st_size < 20e6


def test_very_deep_hyperparams_are_cut_not_lost(run):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    run.log_hyperparams({"a": 1, "deep": deep})
    assert events_in(run.dir, Params)[0].values["a"] == 1


def test_repeated_values_are_not_a_cycle():
    shared = [1]
    assert to_jsonable({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def test_initial_metrics_of_hyperparams_may_be_nan(run):
    run.log_hyperparams({"lr": 0.1}, metrics={"loss": math.nan, "best": torch.tensor(math.inf)})
    (event,) = events_in(run.dir, Params)
    handed = []
    logger = types.SimpleNamespace(log_hyperparams=lambda values, metrics: handed.append(metrics))
    dispatch(event, logger, run.dir)
    assert str(handed) == "[{'loss': nan, 'best': inf}]"


def test_hyperparams_that_are_not_a_mapping_are_reported(run):
    with pytest.warns(UserWarning, match="hyperparameters are a mapping, not list"):
        run.log_hyperparams([1])


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=10,
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(st.text(), json_like))
def test_any_hyperparams_can_be_read_back(params):
    plain = to_jsonable(params)
    assert decode(encode(Params(0.0, plain))).values == plain


def test_splitting_keeps_the_order_of_keys():
    split = split_metrics({"b": 1, "x": "text", "a": {"c": 2.0}})
    assert (list(split.numbers), list(split.rest)) == (["b", "a/c"], ["x"])


@pytest.mark.parametrize("value", [np.array([1, 2]), [1], "1", b"1", None, np.timedelta64("NaT"), np.array("a"), {}])
def test_values_that_are_not_a_single_number(value):
    assert to_number(value) is None


class Model:
    """Like models of pydantic."""

    model_fields: ClassVar = {"lr": None, "batch": None}
    model_fields_set: ClassVar = {"lr"}

    def __init__(self):
        self.lr, self.batch = 0.1, 32

    def model_dump(self):
        raise AssertionError


class WithDict:
    """As the configs of Transformers are."""

    def __init__(self):
        self.token = "hidden"

    def to_dict(self):
        return {"lr": 0.1, "nested": {"token": "<TOKEN>"}}


def test_an_object_that_knows_its_dict():
    assert to_jsonable(WithDict()) == {"lr": 0.1, "nested": {"token": "<TOKEN>"}}
    assert isinstance(to_jsonable(pandas.DataFrame({"a": [1]})), str)


def test_a_model_with_its_defaults():
    assert to_jsonable({"config": Model()}) == {"config": {"lr": 0.1, "batch": 32}}

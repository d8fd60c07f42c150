"""Delivery of params, tags, alerts and the name."""

from argparse import Namespace
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

PARAMS_TIME = 1_234.5


@dataclass
class Model:
    layers: list = field(default_factory=lambda: [64, 32])
    dropout: float = 0.1


PARAMS = {
    "lr": 1e-3,
    "nested": {"optimizer": {"name": "adam", "betas": (0.9, 0.999)}, "none": {}},
    "model": Model(),
    "space": Namespace(seed=1),
    "numpy": np.float32(0.5),
    "tensor": torch.tensor([1, 2]),
    "none": None,
    "flag": True,
    "text": "Grüße 🦉",
    "a/b.c d": 2**53 + 1,
    "class": Model,
    "empty": [],
}
KEPT = {
    "lr": 1e-3,
    "nested|optimizer|name": "adam",
    "nested|optimizer|betas": [0.9, 0.999],
    "nested|none": "{}",
    "model|layers": [64, 32],
    "model|dropout": 0.1,
    "space|seed": 1,
    "numpy": 0.5,
    "tensor": [1, 2],
    "none": None,
    "flag": True,
    "text": "Grüße 🦉",
    "a/b.c d": 2**53 + 1,
    "class": f"{__name__}.Model",
    "empty": [],
}


def test_params_of_all_kinds(attached, stored):
    attached.log_hyperparams(PARAMS)
    assert stored().params == KEPT
    assert {param.source for param in stored().param_history} == {"manual"}


def test_nested_params_are_shown_as_a_tree(attached, stored):
    attached.log_hyperparams({"lr": 1, "empty": {}})
    assert "hasNestedParams" not in stored().others
    attached.log_hyperparams({"net": {"depth": 3}})
    assert stored().others["hasNestedParams"] is True


@pytest.mark.parametrize("given", [None, {}, Namespace()])
def test_empty_params_send_no_request(attached, server, given):
    attached.log_hyperparams(given)
    assert server.count("experiment/parameter") == 0


@pytest.mark.parametrize(
    "value", ["ü" * 1001, "x" * 100_000, list(range(2000)), ["a" * 40] * 40], ids=["1001", "100,000", "ints", "texts"]
)
def test_a_long_value_is_whole_in_an_asset(attached, stored, value):
    with pytest.warns(UserWarning, match=r"'net\|long' is whole in the asset params/net\|long\.txt"):
        attached.log_hyperparams({"net": {"long": value}, "short": 1})
    attached.log_hyperparams({"net": {"long": value}, "short": 1})  # without a warning
    assert stored().params == {"net|long": str(value)[:1000], "short": 1}
    contents = [asset.content.decode() for asset in stored().files("params/net|long.txt")]
    assert set(contents) == {str(value)}


def test_a_value_of_a_thousand_characters_is_not_long(attached, stored):
    attached.log_hyperparams({"text": "x" * 1000})
    assert stored().params == {"text": "x" * 1000}
    assert stored().assets == []


def test_long_names_stay_different(attached, stored):
    with pytest.warns(UserWarning, match="Comet accepts names of 1 to 100 characters"):
        attached.log_hyperparams({"x" * 120: {"a": 1, "b": 2}, "x" * 100: 3})
    found = stored().params
    assert sorted(found.values()) == [1, 2, 3]
    assert {len(name) for name in found} == {100}


def test_more_params_than_fit_into_a_request(attached, stored, server):
    params = {f"p{number}": number for number in range(1500)}
    attached.log_hyperparams(params)
    assert stored().params == params
    assert server.count("experiment/parameter") == 2


def test_tags_of_the_run_of_the_option_and_later_ones(make_logger, run_info, stored):
    import msgspec

    logger = make_logger(tags=["option", "given"], name="named")
    logger.attach(msgspec.structs.replace(run_info, tags=("given", "run"), notes="a run of a test"))
    logger.log_tags(["late", "given"])
    assert sorted(stored().tags) == ["given", "late", "option", "run"]
    assert (stored().name, stored().others["notes"]) == ("named", "a run of a test")
    assert stored().others["Created from"] == "rankzero"


def test_the_name_of_the_run(attached, stored):
    attached.log_metrics({"loss": 1}, 0)
    assert stored().name == "brave-owl"
    assert attached.how_to_view() == f"{attached.session.url}"


def test_alerts(attached, stored):
    attached.alert("Stop", "the loss is NaN", level="ERROR")
    attached.alert("Done")
    found = [(each["title"], each["status"], each["additional_data"]) for each in stored().notifications]
    assert found == [("Stop", "ERROR", {"text": "the loss is NaN"}), ("Done", "INFO", {})]


def test_an_alert_names_its_run(attached, stored):
    attached.alert("Stop")
    (found,) = stored().notifications
    assert (found["experiment_name"], found["experiment_key"]) == ("brave-owl", stored().key)
    assert found["experiment_link"].endswith(stored().key)


def test_params_keep_their_time(attached, stored):
    from rankzero.events.run_info import LogContext

    with attached.at(LogContext(PARAMS_TIME)):
        attached.log_hyperparams({"lr": 1, "net": {"depth": 2}})
    assert {param.time for param in stored().param_history} == {1_234_500}

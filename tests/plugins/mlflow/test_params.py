"""Hyperparameters: none is truncated or changed without being stored completely elsewhere."""

import pytest
from plugins.mlflow.tracked import Held, requests_counted


def test_nested_params_are_flattened(logger):
    logger.log_hyperparams(
        {"model": {"layers": [64, 10], "head": {"bias": True}}, "lr": 1e-3, "seed": None, "optimizer": dict}
    )
    assert Held(logger).params == {
        "model/layers": "[64, 10]",
        "model/head/bias": "True",
        "lr": "0.001",
        "seed": "None",
        "optimizer": "builtins.dict",
    }


def test_hundred_params_a_request(on_server):
    params = {f"p{index}": str(index) for index in range(250)}
    with requests_counted("params") as sizes:
        on_server.log_hyperparams(params)
    assert sizes == [100, 100, 50]
    assert Held(on_server).params == params


def test_a_long_value_is_a_param(on_server):
    params = {"short": "x" * 250, "long": "x" * 6000}
    on_server.log_hyperparams(params)
    assert Held(on_server).params == params
    assert Held(on_server).files() == []


def test_a_truncated_value_is_whole_in_a_file(on_server):
    value = "".join(map(str, range(20_000)))[:20_000]
    with pytest.warns(UserWarning, match=r"'model/.*' is whole in the artifact params/model/.*\.txt: .*6000") as said:
        on_server.log_hyperparams({"model": {"cut": value[:6001], "long": value}, "lr": 1})
    assert len(said) == 2
    held = Held(on_server)
    assert held.params == {"model/cut": value[:6000], "model/long": value[:6000], "lr": "1"}
    assert held.read("params/model/cut.txt").decode() == value[:6001]
    assert held.read("params/model/long.txt").decode() == value


def test_more_text_than_fits_into_a_request(on_server):
    params = {f"p{index}": "ü" * 6000 for index in range(60)}  # of six bytes each, and a request may have a million
    on_server.log_hyperparams(params)
    assert Held(on_server).params == params


@pytest.mark.parametrize("cuts", ["true", "false"])
def test_an_older_server_accepts_less(logger, monkeypatch, cuts):
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", cuts)
    monkeypatch.setattr("mlflow.utils.validation.MAX_PARAM_VAL_LENGTH", 500)
    with pytest.warns(UserWarning, match=r"whole in the artifact params/long\.txt"):
        logger.log_hyperparams({"before": 1, "long": "x" * 501, "after": 2, "short": "x" * 500})
    held = Held(logger)
    long = {"long": "x" * 500} if cuts == "true" else {}
    assert held.params == {"before": "1", "after": "2", "short": "x" * 500, **long}
    assert held.read("params/long.txt") == b"x" * 501


def test_a_changed_value_is_kept_in_a_tag(logger):
    logger.log_hyperparams({"lr": 0.1, "seed": 7})
    with pytest.warns(UserWarning, match=r"'lr' was '0\.1' and is now '0\.2'.* tag 'rankzero\.param\.lr'"):
        logger.log_hyperparams({"lr": 0.2, "seed": 7})
    held = Held(logger)
    assert held.params == {"lr": "0.1", "seed": "7"}
    assert held.tags["rankzero.param.lr"] == "0.2"
    with pytest.warns(UserWarning, match="was '0.2' and is now '0.3'"):
        logger.log_hyperparams({"lr": 0.3})
    assert held.tags["rankzero.param.lr"] == "0.3"
    with pytest.warns(UserWarning, match=r"was '0\.3' and is now '0.1'"):
        logger.log_hyperparams({"lr": 0.1})
    assert held.tags["rankzero.param.lr"] == "0.1"
    assert "rankzero.param.seed" not in held.tags


def test_a_value_that_grew_is_whole_in_a_file(logger):
    logger.log_hyperparams({"text": "x" * 300})
    with pytest.warns(UserWarning, match="300 characters of it"):
        logger.log_hyperparams({"text": "x" * 400})
    assert Held(logger).read("params/text.txt") == b"x" * 400


def test_a_resumed_run_logs_its_params_again(attach):
    params = {"lr": 0.1, "model": {"name": "mlp"}, "long": "x" * 7000}
    with pytest.warns(UserWarning, match="whole in the artifact"):
        attach().log_hyperparams(params)
    again = attach()
    with pytest.warns(UserWarning, match=r"params/long\.txt") as said:
        again.log_hyperparams(params)
    assert len(said) == 1
    held = Held(again)
    assert held.params == {"lr": "0.1", "model/name": "mlp", "long": "x" * 6000}
    assert held.read("params/long.txt") == b"x" * 7000
    assert not any(tag.startswith("rankzero.param.") for tag in held.tags)


def test_a_resumed_run_remembers_changed_params(attach):
    first = attach()
    first.log_hyperparams({"lr": 1})
    with pytest.warns(UserWarning, match="was '1' and is now '2'"):
        first.log_hyperparams({"lr": 2})
    again = attach()
    again.log_hyperparams({"lr": 2})
    with pytest.warns(UserWarning, match="was '2' and is now '3'"):
        again.log_hyperparams({"lr": 3})
    assert Held(again).params == {"lr": "1"}
    assert Held(again).tags["rankzero.param.lr"] == "3"


def test_a_value_that_another_process_changed_meanwhile(logger, make_logger):
    logger.log_hyperparams({"batch": 32})
    other = make_logger(run_id=logger.run_id)
    other.log_hyperparams({"lr": 1})
    with pytest.warns(UserWarning, match=r"'lr' is whole in the artifact params/lr\.txt"):
        logger.log_hyperparams({"lr": 2, "seed": 3})
    held = Held(logger)
    assert held.params == {"batch": "32", "lr": "1", "seed": "3"}
    assert held.read("params/lr.txt") == b"2"


def test_a_name_that_mlflow_refuses(logger):
    with pytest.warns(UserWarning, match=r"refuses the name 'layers\[0\]'; it is called 'layers:5B:0:5D:' there"):
        logger.log_hyperparams({"layers[0]": 64})
    held = Held(logger)
    assert held.params == {"layers:5B:0:5D:": "64"}
    assert held.tags["rankzero.name.layers:5B:0:5D:"] == "layers[0]"

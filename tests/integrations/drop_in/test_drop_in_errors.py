"""Invalid arguments: ours raises at the latest where Lightning's does, and never a worse error."""

import pytest
from integrations.drop_in.outcomes import outcome

WRONG = {
    "csv": [{"save_dr": "x"}, {"save_dir": 5}],
    "tensorboard": [{"save_dr": "x"}, {"save_dir": 5}, {"save_dir": "x", "write_to": 1}],
    "mlflow": [{"experiment": "x"}, {"log_model": "best"}, {"tracking_uri": "nonsense://x"}, {"tags": "tag"}],
    "wandb": [{"log_model": "best"}, {"entty": "me"}, {"offline": "yes"}, {"mode": "of"}, {"add_file_policy": "copy"}],
    "comet": [{"nonsense": 1}, {"mode": "begin"}, {"experiment_key": "short"}, {"tags": "one"}, {"mode": "get"}],
}
KIND = ("ValueError", "TypeError")


@pytest.mark.parametrize(
    ("tracker", "options"), [(tracker, options) for tracker, wrong in WRONG.items() for options in wrong]
)
def test_wrong_arguments(bench, options):
    theirs, ours = (outcome(make, bench, kind, options) for kind in bench.each())
    assert ours == theirs or (theirs in (None, "Exception", *KIND) and ours in KIND)
    assert ours is not None


def make(bench, kind, options):
    logger = kind(**options)
    if bench.tracker == "comet":  # Lightning's has begun an experiment
        bench.made.append(logger)

"""`run.experiment`: Comet's own object in the training process, beside a courier."""

import os

import pytest
from plugins.comet.journals import points_in, points_logged
from waiting import A_WHILE

import rankzero
from rankzero.errors import DeliveryError


@pytest.mark.usefixtures("capture_environment")
@pytest.mark.parametrize(
    ("delivery", "status", "state"),
    [("process", "failed", "crashed"), ("thread", "success", "finished")],
)
def test_its_data_arrives(server, here, tmp_path, capsys, delivery, status, state):
    options = {"project": "p", "run_id": "r" * 32, "name": "mine", "dir": tmp_path / "runs"}
    run = rankzero.start("comet", delivery=delivery, **options)
    for step in range(20):
        run.log_metrics({"loss": step / 3}, step)
    print("printed")
    run.experiment.log_metric("own", 7, step=3)
    run.experiment.log_parameter("ours", "x")
    assert run.experiment.get_key() == "r" * 32
    for step in range(20, 40):
        run.log_metrics({"loss": step / 3}, step)
    run.finish(status, timeout=A_WHILE)
    stored = server.experiment("r" * 32)
    assert len(server.store.experiments) == 1
    own = [(each.value, each.step) for each in stored.metrics if each.name == "own"]
    assert own == [(7, 3)]
    assert [point for point in points_in(stored) if point[0] == "loss"] == points_logged(run.dir)
    assert stored.params["ours"] == "x"
    assert (stored.name, stored.state) == ("mine", state)
    assert stored.beats[-1].alive is False
    assert (stored.system_details["pid"], [line.text for line in stored.output].count("printed\n")) == (os.getpid(), 1)


def test_it_is_unavailable_while_the_server_is_down(server, here, tmp_path, monkeypatch):
    """Comet's client would return an experiment that loses all data."""
    server.stop()
    run = rankzero.start("comet", project="p", dir=tmp_path / "runs", delivery="thread")
    with pytest.raises(DeliveryError, match="cannot be opened in Comet"):
        _ = run.experiment
    server.start()
    run.log_metrics({"loss": 0.5}, 0)
    run.finish(timeout=A_WHILE)
    assert points_in(server.experiment(run.id)) == points_logged(run.dir)


def test_reading_the_property_costs_nothing(server, here, tmp_path):
    run = rankzero.start("comet", project="p", dir=tmp_path / "runs", delivery="off")
    _ = run.experiment
    run.finish()
    assert server.requests == []

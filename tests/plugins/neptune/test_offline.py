"""A Run with ``mode="offline"``: nothing is sent, and ``rankzero sync`` delivers it from the journal."""

import pytest
from plugins.neptune.delivered import points_logged, points_stored

import rankzero
from rankzero.cli import app as cli
from rankzero.errors import ExperimentUnavailableError


@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_offline_run_is_synced_later(server, here, tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("NEPTUNE_MODE", "offline")
    options = {"mode": "offline"} if how == "option" else {}
    with rankzero.start({"neptune": options}, dir=tmp_path / "runs", delivery="thread") as run:
        for step in range(20):
            run.log_metrics({"loss": step / 3}, step)
        with pytest.raises(ExperimentUnavailableError, match="the run is offline"):
            _ = run.experiment
    assert server.requests == []
    assert not list(tmp_path.glob(".neptune/*"))
    monkeypatch.delenv("NEPTUNE_MODE", raising=False)
    assert cli.main(["sync", str(run.dir)]) == 0
    assert points_stored(server, run.id) == points_logged(run.dir)
    assert len(points_logged(run.dir)) == 20
    assert server.run(run.id).value("training/status") == "success"


def test_debug_sends_nothing(server, here, tmp_path):
    with rankzero.start({"neptune": {"mode": "debug"}}, dir=tmp_path / "runs", delivery="thread") as run:
        run.log_metrics({"loss": 1.0}, step=0)
    assert server.requests == []


@pytest.mark.parametrize("mode", ["offline", "debug"])
def test_a_run_that_is_not_sent_has_no_id_of_neptunes(make_logger, run_info, mode):
    logger = make_logger(mode=mode)
    logger.attach(run_info)
    assert (logger.name, logger.version) == ("brave-owl", "OFFLINE")

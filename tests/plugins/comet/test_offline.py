"""Offline and disabled: nothing is sent, and an offline run can be synced from its journal."""

import pytest
from plugins.comet.journals import check_everything, log_everything, points_in, points_logged

import rankzero
from rankzero.cli import app as cli
from rankzero.rundir.positions import load_position


@pytest.fixture
def train(here, monkeypatch, tmp_path):
    """Train with options of the logger and variables of Comet's client."""

    def train(variables, log=lambda run: run.log_metrics({"loss": 0.5}, 0), **options):
        given = {"project": "p", "run_id": "r" * 32, "name": "mine", "tags": ["first"], "dir": tmp_path / "runs"}
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with rankzero.start({"comet": options}, delivery="thread", **given) as run:
                log(run)
        return run.dir

    return train


def sync(run_dir):
    assert cli.main(["sync", str(run_dir)]) == 0


def check_nothing_was_sent(server):
    assert (server.requests, server.store.experiments) == ([], {})


@pytest.mark.parametrize(("options", "variables"), [({"online": False}, {}), ({}, {"COMET_START_ONLINE": "0"})])
def test_nothing_is_sent_until_rankzero_sync(server, train, tmp_path, caplog, capsys, options, variables):
    caplog.set_level("INFO", "rankzero")  # a command that ran in this process before turned messages off
    run_dir = train(variables, lambda run: log_everything(run, tmp_path), **options)
    check_nothing_was_sent(server)
    assert f"rankzero sync {run_dir}" in caplog.text
    assert load_position(run_dir, "comet").offline
    sync(run_dir)
    assert "mine → comet: delivered" in capsys.readouterr().out
    check_everything(server, run_dir)
    assert not load_position(run_dir, "comet").offline
    sync(run_dir)
    check_everything(server, run_dir)


@pytest.mark.parametrize(("options", "variables"), [({"disabled": True}, {}), ({}, {"COMET_AUTO_LOG_DISABLE": "1"})])
def test_a_disabled_logger(server, train, options, variables):
    run_dir = train(variables, **options)
    check_nothing_was_sent(server)
    assert load_position(run_dir, "comet").closed
    sync(run_dir)
    check_nothing_was_sent(server)


def test_a_run_that_continues_after_a_sync(server, train):
    sync(train({}, online=False))
    run_dir = train({})
    assert len(points_logged(run_dir)) == 2
    assert points_in(server.experiment("r" * 32)) == points_logged(run_dir)

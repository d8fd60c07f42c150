"""Offline and switched off: nothing is sent, and of what is offline the journal has everything for later."""

import sys

import pytest
from plugins.comet.journals import check_everything, points_in, points_logged
from plugins.comet.scripts import CometShell

from rankzero.rundir.positions import load_position

EVERYTHING = """
    from pathlib import Path
    from plugins.comet.journals import log_everything
    run = rankzero.start("comet", project="p", run_id="r" * 32, name="mine", tags=["first"]{})
    log_everything(run, Path("."))
    run.finish(timeout=A_WHILE)
"""
SHORT = """
    run = rankzero.start("comet", project="p", run_id="r" * 32{})
    run.log_metrics({{"loss": 0.5}}, 0)
    run.finish(timeout=A_WHILE)
"""


@pytest.fixture
def shell(tmp_path, environment):
    path = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    return CometShell(tmp_path / "work", {**environment, **path})


def check_nothing_was_sent(server):
    assert (server.requests, server.store.experiments) == ([], {})


@pytest.mark.parametrize(
    ("options", "variables"), [(", online=False", {}), (", delivery='thread'", {"COMET_START_ONLINE": "0"})]
)
def test_nothing_is_sent_until_rankzero_sync(server, shell, tmp_path, options, variables):
    ended = shell.train(EVERYTHING.format(options), **variables)
    check_nothing_was_sent(server)
    assert f"rankzero sync {shell.run_dir}" in ended.stderr
    assert load_position(shell.run_dir, "comet").offline
    elsewhere = CometShell(tmp_path / "elsewhere", shell.environment)
    assert "mine → comet: delivered" in elsewhere.sync(shell.run_dir).stdout
    check_everything(server, shell.run_dir)
    assert not load_position(shell.run_dir, "comet").offline
    elsewhere.sync(shell.run_dir)
    check_everything(server, shell.run_dir)


@pytest.mark.parametrize("variables", [{}, {"COMET_AUTO_LOG_DISABLE": "1"}])
def test_a_logger_that_is_switched_off(server, shell, variables):
    shell.train(SHORT.format("" if variables else ", disabled=True"), **variables)
    check_nothing_was_sent(server)
    assert load_position(shell.run_dir, "comet").closed
    shell.sync(shell.run_dir, **variables)
    check_nothing_was_sent(server)


@pytest.mark.slow
def test_a_run_that_goes_on_after_it_was_synced(server, shell):
    shell.train(SHORT.format(", online=False"))
    check_nothing_was_sent(server)
    shell.sync(shell.run_dir)
    shell.train(SHORT.format(""))
    assert len(points_logged(shell.run_dir)) == 2
    assert points_in(server.experiment("r" * 32)) == points_logged(shell.run_dir)

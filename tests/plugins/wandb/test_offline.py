"""Offline: nothing is sent, and both W&B's files and the journal contain everything."""

import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from plugins.wandb.arrived import arrived
from waiting import A_WHILE, until

import rankzero
from rankzero.events.structs import Finish
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position

RUN = {"project": "p", "name": "mine", "run_id": "r", "config": {"lr": 0.1, "net": {"n": [1]}}}
VALUES = [(49 - step, 1 / (step + 1)) for step in range(50)]


def log_everything(run):
    for step, value in VALUES:
        run.log_metrics({"loss": value}, step)
    run.log_image("picture", [np.zeros((4, 4), np.uint8)], step=7, caption=["black"])
    run.log_table("rows", ["n"], [[1], [2]], step=8)
    Path("data.csv").write_text("1,2")
    run.log_artifact("data.csv", name="data", type="dataset")
    run.log_tags(["late"])
    print("printed")


SCRIPT = """
    from plugins.wandb.test_offline import RUN, log_everything
    run = rankzero.start("wandb", offline=True, **RUN)
    log_everything(run)
"""


def check_nothing_was_sent(server):
    assert (server.requests, server.store.runs) == ([], {})


def check_everything(server, exit_code=0, printed=1):
    """Check that W&B has all data once, and console output ``printed`` times."""
    run = server.run("r")
    assert [each[:2] for each in run.scalars("loss", "trainer/global_step")] == VALUES
    times = [each.time for each in run.scalars("loss")]
    assert times == sorted(times)
    held = arrived(run, server)
    assert {key: value for key, value in held.params.items() if key != "rankzero"} == {"lr": 0.1, "net": {"n": [1]}}
    assert (run.display_name, run.project, run.exit_code) == ("mine", "p", exit_code)
    assert [(item.key, item.step, item.caption) for item in held.items["image"]] == [("picture", 7, "black")]
    assert [(item.step, item.content) for item in held.items["table"]] == [(8, (["n"], [[1], [2]]))]
    assert [(item.key, item.content) for item in held.items["artifact"]] == [("data", b"1,2")]
    assert list(run.tags) == ["late"]
    assert run.console.count("printed") == printed


def own_directories(run_dir, run_id="r"):
    """Return the run's directories of W&B's client."""
    return sorted(run_dir.glob(f"wandb/offline-run-*-{run_id}"))


def values(server, run_id="r"):
    return [each[:2] for each in server.run(run_id).scalars("x", "trainer/global_step")]


def log_steps(first, last, sign=1):
    def log(run):
        for step in range(first, last):
            run.log_metrics({"x": sign * step}, step)

    return log


def test_a_script_sends_nothing_until_wandb_sync(server, shell, user, colleague):
    ended = shell.train(SCRIPT + "    run.finish()\n", RANKZERO_CAPTURE_ENVIRONMENT=None)
    check_nothing_was_sent(server)
    assert f"rankzero sync {shell.run_dir}" in ended.stderr
    user.wandb_sync(*own_directories(shell.run_dir))
    check_everything(server)
    assert server.run("r").metadata["program"].endswith("train.py")
    colleague.sync(shell.run_dir)
    check_everything(server, printed=2)


@pytest.mark.parametrize(("options", "variables"), [({"mode": "offline"}, {}), ({}, {"WANDB_MODE": "offline"})])
def test_rankzero_sync_delivers_it_once(server, user, colleague, options, variables):
    run_dir = user.train(log_everything, variables, **RUN, **options).dir
    check_nothing_was_sent(server)
    assert load_position(run_dir, "wandb").offline
    assert "only on this machine; send with: rankzero sync r" in " ".join(user.rankzero("show", run_dir).stdout.split())
    assert "offline" in user.rankzero("ls", user.directory / "runs").stdout
    assert "mine → wandb: delivered" in colleague.sync(run_dir).stdout
    check_everything(server)
    assert not load_position(run_dir, "wandb").offline
    assert "only on this machine" not in user.rankzero("show", run_dir).stdout
    assert "offline" not in user.rankzero("ls", user.directory / "runs").stdout
    assert "has all of it already" in colleague.sync(run_dir).stdout
    user.wandb_sync(*own_directories(run_dir))
    check_everything(server)


def test_both_syncs_deliver_a_run_with_another_id_once(server, user):
    run_dir = user.train(log_steps(0, 5), project="p", id="mine", offline=True).dir
    user.wandb_sync(*own_directories(run_dir, "mine"))
    user.sync(run_dir)
    assert values(server, "mine") == [(step, step) for step in range(5)]


def test_a_courier_that_is_killed(server, user):
    """The next one starts W&B's files again, so that they are complete."""

    def log(run):
        log_everything(run)
        assert run.flush(A_WHILE)
        courier = psutil.Process(load_position(run.dir, "wandb").pid)
        for each in [*courier.children(recursive=True), courier]:
            each.kill()

    run_dir = user.train(log, delivery="process", offline=True, **RUN).dir
    check_nothing_was_sent(server)
    _, whole = own_directories(run_dir)
    user.wandb_sync(whole)
    check_everything(server)


def test_training_that_is_killed(server, shell, user):
    """W&B's own files are complete, too: the courier ends them."""
    shell.train(
        SCRIPT + "    import os, signal; run.flush(A_WHILE); os.kill(os.getpid(), signal.SIGKILL)\n",
        returns=-signal.SIGKILL,
    )
    until(lambda: load_position(shell.run_dir, "wandb").closed)
    user.wandb_sync(*own_directories(shell.run_dir))
    check_everything(server, exit_code=1)


def test_a_resumed_run(server, user):
    for first in (0, 10):
        run_dir = user.train(log_steps(first, first + 10), project="p", run_id="r", offline=True).dir
    check_nothing_was_sent(server)
    first, second = own_directories(run_dir)
    user.wandb_sync(first, second)
    assert values(server) == [(step, step) for step in range(20)]
    user.sync(run_dir)
    assert values(server) == [(step, step) for step in range(20)]


def test_a_run_resumed_after_delivery(server, user):
    for first, is_offline in ((0, True), (10, False), (20, True)):
        run_dir = user.train(log_steps(first, first + 10), project="p", run_id="r", offline=is_offline).dir
        if first == 0:
            check_nothing_was_sent(server)
            user.sync(run_dir)
    user.sync(run_dir)
    assert values(server) == [(step, step) for step in range(30)]


@pytest.mark.parametrize(("options", "variables"), [({"mode": "disabled"}, {}), ({}, {"WANDB_MODE": "disabled"})])
def test_disabled(server, user, capsys, options, variables):
    run_dir = user.train(log_everything, variables, **RUN, **options).dir
    check_nothing_was_sent(server)
    assert "view it" not in capsys.readouterr().err
    assert [event.status for _, event in read_events(run_dir / JOURNAL) if isinstance(event, Finish)] == ["success"]
    assert load_position(run_dir, "wandb").closed
    for command in (("show", run_dir), ("ls", user.directory / "runs")):
        shown = user.rankzero(*command).stdout
        assert "disabled" in shown
        assert "✓" not in shown
    user.sync(run_dir)
    check_nothing_was_sent(server)


def test_two_runs_at_once(server, user):
    def log_to_another(a):
        with rankzero.start("wandb", project="p", run_id="b", offline=True, delivery="thread") as b:
            for step in range(5):
                log_steps(step, step + 1)(a)
                log_steps(step, step + 1, -1)(b)

    run_dir = user.train(log_to_another, project="p", run_id="a", offline=True).dir
    check_nothing_was_sent(server)
    for run_id, sign in (("a", 1), ("b", -1)):
        user.sync(run_dir.with_name(run_id))
        assert values(server, run_id) == [(n, sign * n) for n in range(5)]

"""Offline: nothing is sent, and W&B's own files and the journal each hold everything for later."""

import signal
import sys
from pathlib import Path

import psutil
import pytest
from plugins.wandb.arrived import arrived
from plugins.wandb.scripts import Shell
from waiting import A_WHILE, until

from rankzero.events.structs import Finish
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position

EVERYTHING = """
    import numpy as np
    run = rankzero.start("wandb", project="p", name="mine", run_id="r", config={{"lr": 0.1, "net": {{"n": [1]}}}}{0})
    for step in range(50):
        run.log_metrics({{"loss": 1 / (step + 1)}}, 49 - step)
    run.log_image("picture", [np.zeros((4, 4), np.uint8)], step=7, caption=["black"])
    run.log_table("rows", ["n"], [[1], [2]], step=8)
    with open("data.csv", "w") as file:
        file.write("1,2")
    run.log_artifact("data.csv", name="data", type="dataset")
    run.log_tags(["late"])
    print("printed")
    {1}
"""
VALUES = [(49 - step, 1 / (step + 1)) for step in range(50)]


def everything(options="", then="run.finish()"):
    return EVERYTHING.format(options, then)


@pytest.fixture
def shell(tmp_path, environment):
    return Shell(tmp_path / "work", {**environment, "WANDB_DIR": None, "WANDB_SILENT": None})


def check_nothing_was_sent(server):
    assert (server.requests, server.store.runs) == ([], {})


def check_everything(server, exit_code=0, printed=1):
    """Check that W&B holds just what was logged, once, and what was printed so many times."""
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
    assert run.metadata["program"].endswith("train.py")


def own_directory(shell):
    """Return the directory of the run that W&B's client has written."""
    (directory,) = shell.run_dir.glob("wandb/offline-run-*-r")
    return directory


def wandb_sync(shell, *arguments):
    shell.run(Path(sys.executable).with_name("wandb"), "sync", *arguments)


@pytest.mark.parametrize(
    ("options", "variables", "first"),
    [
        (", offline=True", {}, "wandb"),
        (', mode="offline"', {}, "rankzero"),
        ("", {"WANDB_MODE": "offline"}, "rankzero"),
    ],
)
def test_nothing_is_sent_until_a_sync_and_both_syncs_bring_it_once(server, shell, tmp_path, options, variables, first):
    ended = shell.train(everything(options), **variables)
    check_nothing_was_sent(server)
    assert f"rankzero sync {shell.run_dir}" in ended.stderr
    assert load_position(shell.run_dir, "wandb").offline
    own, elsewhere = own_directory(shell), Shell(tmp_path / "elsewhere", shell.environment)
    if first == "wandb":
        wandb_sync(shell, own)
        check_everything(server)
        elsewhere.sync(shell.run_dir)
        check_everything(server, printed=2)
        return
    assert "mine → wandb: delivered" in elsewhere.sync(shell.run_dir).stdout
    check_everything(server)
    assert not load_position(shell.run_dir, "wandb").offline
    assert "has all of it already" in elsewhere.sync(shell.run_dir).stdout
    wandb_sync(shell, own)
    check_everything(server)


def test_both_syncs_bring_a_run_with_an_id_of_its_own_once(server, shell):
    shell.train("""
    with rankzero.start("wandb", project="p", id="mine", offline=True) as run:
        for step in range(5):
            run.log_metrics({"loss": step}, step)
    """)
    (directory,) = shell.run_dir.glob("wandb/offline-run-*-mine")
    wandb_sync(shell, directory)
    shell.sync(shell.run_dir)
    assert [row["loss"] for row in server.run("mine").history] == list(range(5))


def test_what_is_said_of_it(server, shell):
    shell.train(everything(", offline=True"))
    rankzero = (sys.executable, "-m", "rankzero.cli")
    shown = shell.run(*rankzero, "show", shell.run_dir).stdout
    listed = shell.run(*rankzero, "ls", shell.directory / "runs").stdout
    assert "only on this machine; send with: rankzero sync r" in " ".join(shown.split())
    assert "offline" in listed
    shell.sync(shell.run_dir)
    assert "only on this machine" not in shell.run(*rankzero, "show", shell.run_dir).stdout
    assert "offline" not in shell.run(*rankzero, "ls", shell.directory / "runs").stdout


def test_a_courier_that_is_killed(server, shell):
    """The next one begins W&B's files anew, so that they are whole again."""
    script = """
    import sys
    run.flush(A_WHILE)
    print("flushed", flush=True)
    sys.stdin.readline()
    run.finish()
    """.replace("\n    ", "\n    ")
    with shell.start(sys.executable, shell.write(everything(", offline=True", script)), stdin=-1) as process:
        assert "flushed\n" in iter(process.stdout.readline, "")
        courier = psutil.Process(load_position(shell.run_dir, "wandb").pid)
        for each in [*courier.children(recursive=True), courier]:
            each.kill()
        _, errors = process.communicate("\n", timeout=A_WHILE)
    assert process.returncode == 0, errors
    check_nothing_was_sent(server)
    whole = max(shell.run_dir.glob("wandb/offline-run-*-r"))
    assert len(list(shell.run_dir.glob("wandb/offline-run-*-r"))) == 2
    wandb_sync(shell, whole)
    check_everything(server)


def test_training_that_is_killed(server, shell):
    """W&B's own files hold it, too: the courier ends them."""
    then = "import os, signal; run.flush(A_WHILE); os.kill(os.getpid(), signal.SIGKILL)"
    shell.train(everything(", offline=True", then), returns=-signal.SIGKILL)
    until(lambda: load_position(shell.run_dir, "wandb").closed)
    wandb_sync(shell, own_directory(shell))
    check_everything(server, exit_code=1)


def test_a_run_that_goes_on(server, shell):
    for first in (0, 10):
        shell.train(f"""
        with rankzero.start("wandb", project="p", run_id="r", offline=True) as run:
            for step in range({first}, {first} + 10):
                run.log_metrics({{"loss": step / 4}}, step)
        """)
    check_nothing_was_sent(server)
    first, second = sorted(shell.run_dir.glob("wandb/offline-run-*-r"))
    wandb_sync(shell, first, second)
    values = [(step, step / 4) for step in range(20)]
    assert [each[:2] for each in server.run("r").scalars("loss", "trainer/global_step")] == values
    shell.sync(shell.run_dir)
    assert [each[:2] for each in server.run("r").scalars("loss", "trainer/global_step")] == values


def test_a_run_that_goes_on_after_it_was_delivered(server, shell):
    for first, options in ((0, ", offline=True"), (10, ""), (20, ", offline=True")):
        shell.train(f"""
        with rankzero.start("wandb", project="p", run_id="r"{options}) as run:
            for step in range({first}, {first} + 10):
                run.log_metrics({{"loss": step / 4}}, step)
        """)
        if first == 0:
            check_nothing_was_sent(server)
            shell.sync(shell.run_dir)
    shell.sync(shell.run_dir)
    values = [(step, step / 4) for step in range(30)]
    assert [each[:2] for each in server.run("r").scalars("loss", "trainer/global_step")] == values


@pytest.mark.parametrize(("options", "variables"), [(', mode="disabled"', {}), ("", {"WANDB_MODE": "disabled"})])
def test_disabled(server, shell, options, variables):
    ended = shell.train(everything(options), **variables)
    check_nothing_was_sent(server)
    assert "view it" not in ended.stderr
    assert [event.status for _, event in read_events(shell.run_dir / JOURNAL) if isinstance(event, Finish)] == [
        "success"
    ]
    assert load_position(shell.run_dir, "wandb").closed
    for command in ("show", "ls"):
        shown = shell.run(sys.executable, "-m", "rankzero.cli", command, *[shell.run_dir] * (command == "show")).stdout
        assert "disabled" in shown
        assert "✓" not in shown
    shell.sync(shell.run_dir)
    check_nothing_was_sent(server)


def test_two_runs_at_once(server, shell):
    shell.train("""
    options = {"project": "p", "offline": True}
    with rankzero.start("wandb", run_id="a", **options) as a, rankzero.start("wandb", run_id="b", **options) as b:
        for step in range(5):
            a.log_metrics({"x": step}, step)
            b.log_metrics({"x": -step}, step)
    """)
    check_nothing_was_sent(server)
    for run_id, sign in (("a", 1), ("b", -1)):
        shell.sync(shell.directory / "runs" / "p" / run_id)
        run = server.run(run_id)
        assert [each[:2] for each in run.scalars("x", "trainer/global_step")] == [(n, sign * n) for n in range(5)]

"""``WANDB_…`` variables are respected, arguments win over them, and they are kept for a later delivery; sweeps."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from plugins.wandb.scripts import Shell

LOGS = """
    with rankzero.start("wandb"{options}) as run:
        run.log_metrics({{"loss": 0.5}}, 0)
"""
VARIABLES = {
    "WANDB_ENTITY": "team",
    "WANDB_PROJECT": "digits",
    "WANDB_RUN_ID": "fixed",
    "WANDB_NAME": "baseline",
    "WANDB_RUN_GROUP": "folds",
    "WANDB_JOB_TYPE": "train",
    "WANDB_TAGS": "a,b",
    "WANDB_NOTES": "why",
}
DESCRIPTION = {
    "entity": "team",
    "project": "digits",
    "id": "fixed",
    "display_name": "baseline",
    "group": "folds",
    "job_type": "train",
    "tags": ["a", "b"],
    "notes": "why",
}
TRAINS = """
    import argparse
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--lr", type=float)
    arguments.add_argument("--layers", type=int)
    params = vars(arguments.parse_args())
    with rankzero.start("wandb", config={"seed": 1}) as run:
        run.log_metrics({"loss": params["lr"] * params["layers"]}, 0)
"""
SWEEP = {
    "method": "grid",
    "program": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"values": [0.5, 0.25]}, "layers": {"value": 2}},
}


def logs(options=""):
    return LOGS.format(options=options)


@pytest.fixture
def shell(tmp_path, environment):
    return Shell(tmp_path / "work", {**environment, "WANDB_DIR": None, "WANDB_SILENT": None})


def only_run(server):
    (run,) = server.store.runs.values()
    assert [each[:2] for each in run.scalars("loss", "trainer/global_step")] == [(0, 0.5)]
    assert run.exit_code == 0
    return run


def description(run):
    return {name: getattr(run, name) for name in DESCRIPTION}


def test_variables(server, shell):
    shell.train(logs(), **VARIABLES)
    assert description(only_run(server)) == DESCRIPTION


def test_arguments_of_the_logger_win(server, shell):
    given = {
        "entity": "us", "project": "letters", "id": "mine", "name": "tuned", "group": "g", "job_type": "test",
        "tags": ["c"], "notes": "because",
    }  # fmt: skip
    shell.train(f"""
    with rankzero.start({{"wandb": {given}}}) as run:
        run.log_metrics({{"loss": 0.5}}, 0)
    """, **VARIABLES)  # fmt: skip
    name = given.pop("name")
    assert description(only_run(server)) == {**given, "display_name": name}


def test_arguments_of_the_run_win(server, shell):
    shell.train(logs(', project="letters", name="tuned", tags=["c"], notes="because"'), **VARIABLES)
    given = {"project": "letters", "display_name": "tuned", "tags": ["c"], "notes": "because"}
    assert description(only_run(server)) == {**DESCRIPTION, **given}


def test_without_any(server, shell):
    shell.train(logs())
    run = only_run(server)
    (journal,) = shell.directory.glob("runs/default/*/journal.jsonl")
    start = json.loads(journal.read_text().splitlines()[0])["run"]
    assert (run.id, run.display_name, run.project) == (start["id"], start["name"], "default")
    assert (run.entity, run.group, run.job_type, list(run.tags), run.notes) == (
        server.store.entity, None, None, [], None
    )  # fmt: skip


@pytest.mark.parametrize("options", ["", ', settings={"x_stats_sampling_interval": 5}'])
def test_a_later_sync_without_them_goes_to_the_same_place(server, shell, tmp_path, options):
    server.stop()
    shell.train(
        f"""
    import os, signal
    run = rankzero.start("wandb"{options})
    run.log_metrics({{"loss": 0.5}}, 0)
    run._supervisor.get("wandb")._process.kill()
    run.finish(timeout=0)
    """,
        **VARIABLES,
    )
    server.start()
    elsewhere = Shell(tmp_path / "elsewhere", {**shell.environment, "WANDB_BASE_URL": None})
    elsewhere.sync(shell.run_dir)
    assert description(only_run(server)) == DESCRIPTION


def test_offline_is_remembered_for_what_is_synced(server, shell, tmp_path):
    shell.train(logs(), WANDB_MODE="offline", **VARIABLES)
    assert server.requests == []
    Shell(tmp_path / "elsewhere", {**shell.environment, "WANDB_BASE_URL": None}).sync(shell.run_dir)
    assert description(only_run(server)) == DESCRIPTION


def test_variables_of_who_syncs_do_not_redirect_a_run(server, shell, tmp_path):
    shell.train("""
    with rankzero.start("wandb", project="p", run_id="r", delivery="off") as run:
        run.log_metrics({"loss": 0.5}, 0)
    """)
    foreign = {"WANDB_ENTITY": "team", "WANDB_RUN_ID": "other", "WANDB_TAGS": "x", "WANDB_RUN_GROUP": "g"}
    Shell(tmp_path / "elsewhere", shell.environment).sync(shell.run_dir, **foreign)
    run = server.run("r")
    assert (run.entity, list(run.tags), run.group) == ("tester", [], None)
    assert len(server.store.runs) == 1


SYNC_SLOWLY = """
    import sys, time
    from rankzero.cli import app
    from rankzero_wandb import courier
    open_for_courier = courier.open_for_courier
    def open_slowly(*arguments, **options):
        print("begin", flush=True)
        time.sleep(2)  # in which the other one would begin, too
        run = open_for_courier(*arguments, **options)
        print("opened", flush=True)
        return run
    courier.open_for_courier = open_slowly
    sys.exit(app.main(["sync", sys.argv[1], "--timeout", "80"]))
"""


def test_two_loggers_of_one_run_in_one_process(server, shell):
    """W&B's client cannot have an id twice, so one waits until the other has ended."""
    shell.train("""
    from rankzero_wandb import WandbLogger
    loggers = [WandbLogger(project="a"), WandbLogger(project="b")]
    with rankzero.start(loggers, run_id="r", delivery="off") as run:
        for step in range(500):
            run.log_metrics({"loss": step}, step)
    """)
    ended = shell.train(SYNC_SLOWLY, shell.run_dir)
    assert re.findall("^(begin|opened)$", ended.stdout, re.MULTILINE) == ["begin", "opened"] * 2
    for stored in server.store.runs.values():
        assert [row["loss"] for row in stored.history] == list(range(500))
    assert len(server.store.runs) == 2


def test_disabled_is_remembered(server, shell, tmp_path):
    shell.train(logs(), WANDB_MODE="disabled", **VARIABLES)
    Shell(tmp_path / "elsewhere", shell.environment).sync(shell.run_dir, "--again")
    assert server.requests == []


def test_no_secret_is_kept(shell):
    shell.train(logs(), **VARIABLES, WANDB_MODE="offline")
    kept = json.loads((shell.run_dir / "journal.jsonl").read_text().splitlines()[0])["loggers"]["wandb"]["options"]
    base_url = shell.environment["WANDB_BASE_URL"]
    assert kept == {"environment": {**VARIABLES, "WANDB_BASE_URL": base_url, "WANDB_MODE": "offline"}}


def test_the_directory_of_wandb(server, shell, tmp_path):
    shell.train(logs(), WANDB_DIR=str(tmp_path / "scratch"))
    only_run(server)
    assert list((tmp_path / "scratch").glob("wandb/run-*"))
    assert not (shell.run_dir / "wandb").exists()
    assert not (shell.directory / "wandb").exists()


def test_without_it_nothing_lies_outside_of_the_run(server, shell):
    shell.train(logs())
    only_run(server)
    assert {path.name for path in shell.directory.iterdir()} == {"train.py", "runs"}
    assert list(shell.run_dir.glob("wandb/run-*"))


def test_one_id_for_several_runs(server, shell):
    """A job that begins again under its id, as W&B's users do, goes on in W&B."""
    for first in (0, 3):
        shell.train(
            f"""
        with rankzero.start("wandb", project="p") as run:
            for step in range({first}, {first} + 3):
                run.log_metrics({{"loss": step}}, step)
        """,
            WANDB_RUN_ID="fixed",
        )
    steps = [each[:2] for each in server.run("fixed").scalars("loss", "trainer/global_step")]
    assert steps == [(step, step) for step in range(6)]


def test_two_runs_of_a_process(server, shell):
    shell.train("""
    with rankzero.start("wandb", project="p", run_id="a") as a, rankzero.start("wandb", project="q", run_id="b") as b:
        for step in range(5):
            a.log_metrics({"x": step}, step)
            b.log_metrics({"x": -step}, step)
        print("printed once")
    with rankzero.start("wandb", project="p", run_id="c") as c:
        c.log_metrics({"x": 9}, 0)
    """)
    for run_id, project, sign in (("a", "p", 1), ("b", "q", -1)):
        run = server.run(run_id)
        assert [each[:2] for each in run.scalars("x", "trainer/global_step")] == [(n, sign * n) for n in range(5)]
        assert (run.project, run.exit_code) == (project, 0)
        assert run.console.count("printed once") == 1
    assert server.run("c").scalars("x")[0].value == 9


@pytest.mark.parametrize("delivery", ["thread"])
def test_two_runs_of_a_process_with_threads(server, shell, delivery):
    shell.train(f"""
    options = {{"project": "p", "delivery": "{delivery}"}}
    with rankzero.start("wandb", run_id="a", **options) as a, rankzero.start("wandb", run_id="b", **options) as b:
        for step in range(5):
            a.log_metrics({{"x": step}}, step)
            b.log_metrics({{"x": -step}}, step)
    """)
    for run_id, sign in (("a", 1), ("b", -1)):
        values = [each[:2] for each in server.run(run_id).scalars("x", "trainer/global_step")]
        assert values == [(n, sign * n) for n in range(5)]


# Sweeps


@pytest.fixture
def sweep(server, shell):
    """The id of a sweep of ``train.py``."""
    (shell.directory / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    wandb = Path(sys.executable).with_name("wandb")
    shell.run(wandb, "sweep", "--project", "p", "sweep.yaml")
    (sweep,) = server.store.sweeps.values()
    return sweep


def check_sweep(server, sweep):
    assert len(sweep.run_ids) == 2
    for run_id, lr in zip(sweep.run_ids, SWEEP["parameters"]["lr"]["values"], strict=True):
        run = server.run(run_id)
        assert (run.sweep, run.project, run.exit_code) == (sweep.id, "p", 0)
        assert {"lr": run.config["lr"], "layers": run.config["layers"], "seed": run.config["seed"]} == {
            "lr": lr, "layers": 2, "seed": 1
        }  # fmt: skip
        assert [each[:2] for each in run.scalars("loss", "trainer/global_step")] == [(0, lr * 2)]


@pytest.mark.slow
def test_a_sweep_by_the_command(server, shell, sweep):
    shell.write(TRAINS)
    wandb = Path(sys.executable).with_name("wandb")
    # W&B's agent may abort on its way out, when all is done.
    command = (wandb, "agent", "--count", "2", f"{server.store.entity}/p/{sweep.id}")
    shell.run(*command, returns=None, PATH=path_with_python())
    check_sweep(server, sweep)


def path_with_python():
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.parametrize("is_late", [False, True])
def test_a_run_of_a_sweep_as_an_agent_starts_it(server, shell, sweep, tmp_path, is_late):
    """Delivered at once, or later without the agent's environment and files."""
    for each in (sweep.command(), sweep.command()):
        parameters = shell.directory / f"config-{each['run_id']}.yaml"
        parameters.write_text(yaml.safe_dump({"wandb_version": 1, **each["args"]}))
        variables = {
            "WANDB_SWEEP_ID": sweep.id,
            "WANDB_RUN_ID": each["run_id"],
            "WANDB_PROJECT": "p",
            "WANDB_ENTITY": server.store.entity,
            "WANDB_SWEEP_PARAM_PATH": str(parameters),
        }
        arguments = [f"--{name}={value['value']}" for name, value in each["args"].items()]
        shell.train(TRAINS, *arguments, **variables, **({"WANDB_MODE": "offline"} if is_late else {}))
        parameters.unlink()
    if is_late:
        elsewhere = Shell(tmp_path / "elsewhere", {**shell.environment, "WANDB_BASE_URL": None})
        elsewhere.sync(*shell.directory.glob("runs/default/*"))
    check_sweep(server, sweep)


@pytest.mark.slow
def test_a_sweep_of_a_function(server, shell, sweep):
    """Its parameters come in no command line, and wandb.config is not in this process."""
    shell.train(f"""
    import wandb
    from rankzero_wandb import sweep_parameters

    def train():
        params = sweep_parameters()
        with rankzero.start("wandb", config={{"seed": 1}}) as run:
            run.log_metrics({{"loss": params["lr"] * params["layers"]}}, 0)

    wandb.agent("{sweep.id}", train, entity="{server.store.entity}", project="p", count=2)
    assert sweep_parameters() == {{}}
    """)
    check_sweep(server, sweep)

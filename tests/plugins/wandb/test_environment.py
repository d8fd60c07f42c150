"""``WANDB_…`` variables: precedence of arguments, recording for a later delivery; sweeps."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from servers.wandb_mock.sweep import Sweep
from waiting import A_WHILE

import rankzero
from rankzero_wandb import WandbLogger, courier
from rankzero_wandb.importing.importer import WandbImporter
from rankzero_wandb.opening import client_settings

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
OF_LOGGER = {
    "entity": "us", "project": "letters", "id": "mine", "name": "tuned", "group": "g", "job_type": "test",
    "tags": ["c"], "notes": "because",
}  # fmt: skip
OF_RUN = {"project": "letters", "name": "tuned", "tags": ["c"], "notes": "because"}


def only_run(server):
    (run,) = server.store.runs.values()
    assert [each[:2] for each in run.scalars("loss", "trainer/global_step")] == [(0, 0.5)]
    assert run.exit_code == 0
    return run


def description(run):
    return {name: getattr(run, name) for name in DESCRIPTION}


@pytest.mark.parametrize(
    ("loggers", "options", "given"),
    [
        ("wandb", {}, {}),
        ({"wandb": OF_LOGGER}, {}, OF_LOGGER),
        ("wandb", OF_RUN, OF_RUN),
    ],
    ids=["only variables", "arguments of the logger", "arguments of the run"],
)
def test_arguments_take_precedence_over_variables(server, user, loggers, options, given):
    user.train(loggers=loggers, variables=VARIABLES, **options)
    renamed = {"display_name" if name == "name" else name: value for name, value in given.items()}
    assert description(only_run(server)) == {**DESCRIPTION, **renamed}


def test_without_variables(server, user):
    given = user.train()
    run = only_run(server)
    assert (run.id, run.display_name, run.project) == (given.id, given.name, "default")
    assert (run.entity, run.group, run.job_type, list(run.tags), run.notes) == (
        server.store.entity, None, None, [], None
    )  # fmt: skip


def test_runs_with_a_parent_are_a_group_unless_they_have_one(server, user):
    user.train(run_id="grouped", parent="p1", group="g")
    user.train(run_id="nested", parent="p1")
    for name, group in (("grouped", "g"), ("nested", "p1")):
        run = server.run(name)
        assert (run.group, run.config["rankzero"]["parent"]) == (group, "p1")


@pytest.mark.parametrize("group", ["g", None])
def test_the_parent_of_an_offline_run_is_imported(user, group):
    run = user.train(loggers={"wandb": {"offline": True}}, parent="p1", group=group)
    (found,) = WandbImporter().find([str(run.dir / "wandb")])
    header = found.header()
    assert (header.parent, header.group) == ("p1", group)


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {"delivery": "off"}),
        ({}, {"delivery": "off", "settings": {"x_stats_sampling_interval": 5}}),
        ({"WANDB_MODE": "offline"}, {}),
    ],
)
def test_a_later_sync_without_them_goes_to_the_same_place(server, user, colleague, variables, options):
    user.train(variables={**VARIABLES, **variables}, **options)
    assert server.requests == []
    colleague.sync(user.run_dir)
    assert description(only_run(server)) == DESCRIPTION


def test_variables_of_the_syncing_user_do_not_redirect_a_run(server, user):
    user.train(project="p", run_id="r", delivery="off")
    user.sync(user.run_dir, WANDB_ENTITY="team", WANDB_RUN_ID="other", WANDB_TAGS="x", WANDB_RUN_GROUP="g")
    run = server.run("r")
    assert (run.entity, list(run.tags), run.group) == ("tester", [], None)
    assert len(server.store.runs) == 1


def test_disabled_is_remembered(server, user, colleague):
    user.train(variables={**VARIABLES, "WANDB_MODE": "disabled"})
    colleague.sync(user.run_dir, "--again")
    assert server.requests == []


def test_no_secret_is_recorded(user):
    user.train(variables={**VARIABLES, "WANDB_MODE": "offline"})
    kept = json.loads((user.run_dir / "journal.jsonl").read_text().splitlines()[0])["loggers"]["wandb"]["options"]
    base_url = user.environment["WANDB_BASE_URL"]
    assert kept == {"environment": {**VARIABLES, "WANDB_BASE_URL": base_url, "WANDB_MODE": "offline"}}


def test_the_directory_of_wandb(server, user, tmp_path):
    user.train(variables={"WANDB_DIR": str(tmp_path / "scratch")})
    only_run(server)
    assert list((tmp_path / "scratch").glob("wandb/run-*"))
    assert not (user.run_dir / "wandb").exists()
    assert {path.name for path in user.directory.iterdir()} == {"runs"}


def test_by_default_all_files_are_in_the_run_directory(server, user):
    user.train()
    only_run(server)
    assert {path.name for path in user.directory.iterdir()} == {"runs"}
    assert list(user.run_dir.glob("wandb/run-*"))


def test_timeouts_of_the_client(run_info, monkeypatch):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "90")
    monkeypatch.setenv("WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS", "60")
    settings = client_settings(WandbLogger().options, run_info, None)
    assert settings["finish_timeout"] == 60
    assert not {"init_timeout", "x_graphql_retry_wait_max_seconds"} & settings.keys()


# Several runs


def log_steps(first, last, sign=1):
    def log(run):
        for step in range(first, last):
            run.log_metrics({"x": sign * step}, step)

    return log


def steps_and_values(server, run_id):
    return [each[:2] for each in server.run(run_id).scalars("x", "trainer/global_step")]


def test_one_id_for_several_runs(server, user):
    """A job that starts again with its id, as is usual with W&B, continues the run in W&B."""
    for first in (0, 3):
        user.train(log_steps(first, first + 3), {"WANDB_RUN_ID": "fixed"}, project="p")
    assert steps_and_values(server, "fixed") == [(step, step) for step in range(6)]


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_two_runs_of_a_process(server, user, delivery):
    def log_to_another(a):
        with rankzero.start("wandb", project="q", run_id="b", delivery=delivery) as b:
            for step in range(5):
                log_steps(step, step + 1)(a)
                log_steps(step, step + 1, -1)(b)
            print("printed once")

    user.train(log_to_another, project="p", run_id="a", delivery=delivery)
    user.train(log_steps(9, 10), project="p", run_id="c", delivery=delivery)
    for run_id, project, sign in (("a", "p", 1), ("b", "q", -1)):
        run = server.run(run_id)
        assert steps_and_values(server, run_id) == [(n, sign * n) for n in range(5)]
        assert (run.project, run.exit_code) == (project, 0)
        assert run.console.count("printed once") == 1
    assert steps_and_values(server, "c") == [(9, 9)]


def test_two_loggers_of_one_run_in_one_process(server, user, monkeypatch):
    """W&B's client cannot open an id twice, so one logger waits until the other has ended."""
    happened, open_for_courier = [], courier.open_for_courier

    def open_slowly(*arguments, **options):
        happened.append("begin")
        assert both_are_there.wait(A_WHILE)
        time.sleep(0.5)  # in which the other one would start, too
        run = open_for_courier(*arguments, **options)
        happened.append("opened")
        return run

    both_are_there = threading.Event()
    session = courier.CourierSession.__init__

    def count(self, *arguments):
        started.append(self)
        if len(started) == 2:
            both_are_there.set()
        session(self, *arguments)

    started = []
    user.train(
        log_steps(0, 50),
        loggers=[WandbLogger(project="a"), WandbLogger(project="b")],
        run_id="r",
        delivery="off",
    )
    monkeypatch.setattr(courier, "open_for_courier", open_slowly)
    monkeypatch.setattr(courier.CourierSession, "__init__", count)
    user.sync(user.run_dir)
    assert happened == ["begin", "opened"] * 2
    for stored in server.store.runs.values():
        assert [row["x"] for row in stored.history] == list(range(50))
    assert len(server.store.runs) == 2


# Sweeps

SWEEP = {
    "method": "grid",
    "program": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"values": [0.5, 0.25]}, "layers": {"value": 2}},
}


@pytest.fixture
def sweep(server):
    """A sweep of ``train.py``."""
    sweep = Sweep(server.store.entity, "p", "sweep0", yaml.safe_dump(SWEEP))
    server.store.sweeps[sweep.id] = sweep
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


@pytest.mark.filterwarnings("ignore:unclosed file .*config.yaml:ResourceWarning")  # W&B's client leaves it open
@pytest.mark.parametrize("is_late", [False, True])
def test_a_run_of_a_sweep_as_an_agent_starts_it(server, user, colleague, sweep, tmp_path, is_late):
    """Delivery at once, or later without the agent's environment and files."""
    parameters = tmp_path / "config.yaml"
    for each in (sweep.command(), sweep.command()):
        parameters.write_text(yaml.safe_dump({"wandb_version": 1, **each["args"]}))
        variables = {
            "WANDB_SWEEP_ID": sweep.id,
            "WANDB_RUN_ID": each["run_id"],
            "WANDB_PROJECT": "p",
            "WANDB_ENTITY": server.store.entity,
            "WANDB_SWEEP_PARAM_PATH": str(parameters),
        }
        loss = each["args"]["lr"]["value"] * each["args"]["layers"]["value"]
        user.train(
            lambda run, loss=loss: run.log_metrics({"loss": loss}, 0),
            variables,
            config={"seed": 1},
            delivery="off" if is_late else "thread",
        )
    parameters.unlink()
    if is_late:
        colleague.sync(*user.directory.glob("runs/default/*"))
    check_sweep(server, sweep)


@pytest.mark.slow
def test_a_sweep_by_the_command(server, shell):
    shell.write("""
    import argparse
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--lr", type=float)
    arguments.add_argument("--layers", type=int)
    params = vars(arguments.parse_args())
    with rankzero.start("wandb", config={"seed": 1}) as run:
        run.log_metrics({"loss": params["lr"] * params["layers"]}, 0)
    """)
    (shell.directory / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    wandb = Path(sys.executable).with_name("wandb")
    shell.run(wandb, "sweep", "--project", "p", "sweep.yaml")
    (sweep,) = server.store.sweeps.values()
    # W&B's agent may abort at its exit, when everything is done.
    command = (wandb, "agent", "--count", "2", f"{server.store.entity}/p/{sweep.id}")
    shell.run(*command, returns=None, PATH=path_with_python())
    check_sweep(server, sweep)


def path_with_python():
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.slow
def test_a_sweep_of_a_function(server, shell, sweep):
    """Its parameters are not on the command line, and wandb.config is not in this process."""
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

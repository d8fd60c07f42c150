"""The experiment of a run: key, name, project, workspace; changes by the user."""

import pytest
from plugins.comet.journals import deliver, journal_of_rows, points_in, points_logged

import rankzero
from rankzero.cli import app as cli
from rankzero.delivery.courier import GaveUpError
from rankzero.events.run_info import RunInfo
from rankzero_comet.options import CometOptions


def run_info(run_id, project="p"):
    return RunInfo(run_id, "brave-owl", project, "/nowhere")


def key_of(run_id, project="p", **settings):
    return CometOptions(settings).key_of(run_info(run_id, project))


def only(server):
    (stored,) = server.store.experiments.values()
    return stored


# The key


@pytest.mark.parametrize("run_id", ["a" * 32, "A1" * 16, "b" * 50])
def test_an_id_that_is_a_key_is_the_key(here, run_id):
    assert key_of(run_id) == run_id


@pytest.mark.parametrize("run_id", ["exp-1", "a" * 31, "a" * 51, "x-" * 16, "ä" * 32, "lauf 7"])
def test_another_id_becomes_a_key(here, run_id):
    key = key_of(run_id)
    assert 32 <= len(key) <= 50
    assert key.isascii()
    assert key.isalnum()
    assert key == key_of(run_id)
    others = [key_of(run_id + "2"), key_of(run_id, "q"), key_of(run_id, workspace="other")]
    assert len({key, *others}) == 4


def test_a_given_key_is_used(here, monkeypatch):
    assert key_of("exp-1", experiment_key="k" * 32) == "k" * 32
    monkeypatch.setenv("COMET_EXPERIMENT_KEY", "e" * 40)
    assert key_of("exp-1") == "e" * 40
    assert key_of("exp-1", experiment_key="k" * 32) == "k" * 32


def test_every_process_finds_the_run_of_an_id(server, here, tmp_path):
    for value in (0.5, 0.25):
        with rankzero.start("comet", project="p", dir=tmp_path / "a", run_id="exp-1", delivery="thread") as run:
            run.log_metrics({"loss": value})
    assert points_in(only(server)) == points_logged(run.dir)
    with rankzero.start("comet", project="q", dir=tmp_path / "a", run_id="exp-1", delivery="thread") as run:
        run.log_metrics({"loss": 1.0})
    assert len(server.store.experiments) == 2


# The name


def test_values_changed_by_the_user_are_not_set_again(server, here, tmp_path):
    options = {"project": "p", "dir": tmp_path, "run_id": "r" * 32, "delivery": "thread"}
    with rankzero.start("comet", name="mine", tags=["a"], notes="try", group="folds", parent="p1", **options) as run:
        run.log_metrics({"loss": 0.5}, 0)
    stored = only(server)
    assert (stored.name, stored.tags, stored.others["notes"]) == ("mine", ["a"], "try")
    assert (stored.others["group"], stored.others["parent"]) == ("folds", "p1")
    assert stored.others["Created from"] == "rankzero"
    stored.other_history.append(stored.other_history[0]._replace(name="Name", value="renamed"))
    stored.added_tags.clear()
    with rankzero.start("comet", name="mine", tags=["a"], notes="try", **options) as run:
        run.log_metrics({"loss": 0.25}, 1)
    assert (stored.name, stored.tags) == ("renamed", [])
    assert points_in(stored) == points_logged(run.dir)


def test_a_name_and_tags_of_the_logger(server, here, tmp_path):
    deliver(journal_of_rows(tmp_path, {"loss": 0.5}), name="own", tags=["x", "y"])
    assert (only(server).name, only(server).tags) == ("own", ["x", "y"])


def test_an_experiment_that_must_exist(server, here, tmp_path):
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5})
    with pytest.raises(GaveUpError, match="cannot be opened in Comet: there is no experiment"):
        deliver(run_dir, grace_period=0, mode="get", experiment_key="k" * 32)
    assert server.store.experiments == {}
    server.store.add_experiment("k" * 32, None, "there")
    deliver(run_dir, mode="get", experiment_key="k" * 32)
    assert (only(server).project, len(only(server).metrics)) == ("there", 1)


# The destination


@pytest.mark.parametrize(
    ("options", "variables", "project", "workspace"),
    [
        ({}, {}, "default", "tester"),
        ({"project": "mine", "workspace": "team"}, {}, "mine", "team"),
        ({}, {"COMET_PROJECT_NAME": "env", "COMET_WORKSPACE": "crew"}, "env", "crew"),
        ({"project": "mine"}, {"COMET_PROJECT_NAME": "env"}, "mine", "tester"),
    ],
)
def test_project_and_workspace(server, here, tmp_path, monkeypatch, options, variables, project, workspace):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with rankzero.start("comet", dir=tmp_path, delivery="thread", **options) as run:
        run.log_metrics({"loss": 0.5}, 0)
    assert (only(server).project, only(server).workspace) == (project, workspace)


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_run_is_synced_to_its_original_destination(server, here, tmp_path, monkeypatch, where):
    """Also from an environment with only the user's key."""
    settings = {
        "workspace": "crew",
        "experiment_key": "k" * 32,
        "project_name": "env",
        "url_override": server.url,
        "start_online": "0",
    }
    monkeypatch.delenv("COMET_URL_OVERRIDE")
    with monkeypatch.context() as patch:
        if where == "environment":
            for name, value in settings.items():
                patch.setenv(f"COMET_{name.upper()}", value)
        else:
            lines = [f"{name} = {value}" for name, value in settings.items()]
            (tmp_path / ".comet.config").write_text("\n".join(["[comet]", *lines]))
            patch.delenv("COMET_CONFIG")
        with rankzero.start("comet", run_id="exp-1", dir=tmp_path / "runs", delivery="thread") as run:
            run.log_metrics({"loss": 0.5}, 0)
    (tmp_path / ".comet.config").unlink(missing_ok=True)
    assert server.requests == []
    assert cli.main(["sync", str(run.dir)]) == 0
    stored = only(server)
    assert (stored.key, stored.workspace, stored.project) == ("k" * 32, "crew", "env")
    assert points_in(stored) == points_logged(run.dir)


def test_a_run_without_a_project_uses_that_of_the_environment(server, here, tmp_path, monkeypatch):
    options = {"run_id": "exp-8", "dir": tmp_path / "runs", "delivery": "thread"}
    with monkeypatch.context() as patch:
        patch.setenv("COMET_PROJECT_NAME", "env")
        with rankzero.start("comet", online=False, **options) as run:
            run.log_metrics({"loss": 0.5}, 0)
    assert cli.main(["sync", str(run.dir)]) == 0
    assert only(server).project == "env"
    monkeypatch.setenv("COMET_PROJECT_NAME", "env")
    with rankzero.start("comet", **options) as run:
        run.log_metrics({"late": 0.5}, 0)
    assert [metric.name for metric in only(server).metrics] == ["loss", "late"]


def test_the_url_of_a_logger_is_used(server, here, tmp_path, monkeypatch):
    monkeypatch.setenv("COMET_URL_OVERRIDE", "http://127.0.0.1:9/clientlib/")
    deliver(run_dir := journal_of_rows(tmp_path, {"loss": 0.5}), url=server.url)
    assert points_in(only(server)) == points_logged(run_dir)

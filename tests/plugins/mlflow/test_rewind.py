"""Runs that are rewound: with the option ``rewind`` a new MLflow run has what `read_run` returns, otherwise both."""

import subprocess
import sys
import uuid
import warnings
from contextlib import suppress
from functools import partial
from itertools import count
from unittest import mock

import msgspec
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from PIL import Image
from plugins.mlflow.tracked import Held, runs_tagged
from waiting import A_WHILE

import rankzero
from rankzero.cli.app import main
from rankzero.delivery.refusals import rejected_lines
from rankzero.events.structs import Params, Rewind, Text
from rankzero.rundir.positions import load_position
from rankzero.testing.faults import lost, status
from rankzero.testing.journals import TIME, JournalOf, KilledError, die
from rankzero.testing.proxy import FaultyProxy
from rankzero.testing.runs import EagerCourier
from rankzero_mlflow import MLFlowLogger
from rankzero_mlflow.client import CheckedClient

PICTURE = [np.zeros((2, 2, 3), np.uint8)]


class Rewound:
    """A run that is delivered, and then rewound to step 3."""

    def __init__(self, uri, directory):
        self.uri, self.id, self.directory, self.step, self.options = uri, uuid.uuid4().hex, directory, 3, {}
        self.dir = directory / "runs" / "p" / self.id

    def start(self, delivery):
        options = {"rewind": True, "tracking_uri": self.uri, "experiment_name": self.id, **self.options}
        described = {"project": "p", "name": "brave-owl", "tags": ["baseline"], "system_metrics": False}
        where = {"dir": self.directory / "runs", "run_id": self.id, "resume_step": self.step}
        return rankzero.start({"mlflow": options}, delivery=delivery, **described, **where)

    def first(self, delivery="thread", **options):
        """Log also what the rewind does not supersede, after what it supersedes."""
        self.options = options
        (self.directory / "last.ckpt").write_bytes(b"weights")
        with self.start(delivery) as run:
            run.log_hyperparams({"lr": 0.1}, {"hp": 0.5})
            run.define_metric("loss", summary="min")
            run.log_metrics({"other": 0.5})
            for step in range(6):
                run.log_metrics({"loss": 5.0 - step}, step)
                run.log_image("picture", PICTURE, step=step)
            run.log_table("table", ["a"], [["kept"]], step=0)
            run.log_table("table", ["a", "b"], [["superseded", Image.fromarray(PICTURE[0])]], step=5)
            run.log_histogram("weights", np.arange(4.0), step=5)
            run.log_metrics({"late": 1.0}, 5)
            run.log_checkpoint(self.directory / "last.ckpt", step=5, aliases=["best"])
        return self

    def again(self, delivery="thread"):
        """Log the second part; return the warnings."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with self.start(delivery) as run:
                for step in range(4, 8):
                    run.log_metrics({"loss": 10.0 + step}, step)
                run.log_image("picture", PICTURE, step=6)
        said = [str(each.message) for each in warned]
        return [each for each in said if "is not deleted" in each or "was rewound" in each]

    def runs(self):
        """Return MLflow's runs, each followed by the one that replaces it."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self.id).experiment_id
        found = client.search_runs([experiment], run_view_type=ViewType.ALL)
        following = {run.data.tags.get("rankzero.rewound_from"): run for run in found if run.info.run_name != "child"}
        chain = [following[None]]
        while (run := following.get(chain[-1].info.run_id)) is not None:
            chain.append(run)
        return chain

    def expect_replaced(self, *, rewinds=1, is_deleted=True):
        """Compare the new run with the journal, and check what became of each old one."""
        *old_runs, new = self.runs()
        assert len(old_runs) == rewinds
        for old, following in zip(old_runs, [*old_runs[1:], new], strict=True):
            assert (old.info.lifecycle_stage == "deleted") == is_deleted
            assert old.info.status == "KILLED"
            assert old.data.tags["rankzero.rewound_to"] == following.info.run_id
            assert following.data.tags["rankzero.rewound_from"] == old.info.run_id
            assert "rankzero.run_id" not in old.data.tags
        held, data = Held(self.uri, new.info.run_id), rankzero.read_run(self.dir)
        for name in ("loss", "other"):
            series = data.metrics[name]
            points = [(value, time) for _, value, time in held.points(name)]
            assert points == list(zip(series.value.tolist(), (series.time * 1000).round().tolist(), strict=True))
        assert new.data.metrics.keys() == {"loss", "loss.min", "other", "hp"}
        assert new.data.metrics["loss.min"] == 2.0
        assert new.data.params == {"lr": "0.1"}
        assert (new.info.run_name, new.info.status) == ("brave-owl", "FINISHED")
        assert new.info.start_time == old_runs[0].info.start_time
        tags = {name for name, text in new.data.tags.items() if text in ("true", self.id)}
        assert tags == {"baseline", "rankzero.run_id"}
        assert "rankzero.rewound_at" not in new.data.tags
        assert [path.split("+")[2] for path in held.files("images") if path.endswith("png")] == [*"01236"]
        assert [held.read_json(path)["data"] for path in held.files("tables")] == [[["kept"]]]
        assert held.tags["mlflow.loggedArtifacts"].count("table/") == 1
        assert load_position(self.dir, "mlflow").closed
        return held


@pytest.fixture
def rewound(store, tmp_path):
    return Rewound(f"sqlite:///{store}/mlflow.db", tmp_path)


@pytest.fixture
def proxy(mlflow_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with FaultyProxy(mlflow_server.uri) as proxy:
        yield proxy


def test_a_new_run_replaces_the_old_one(rewound):
    (old,) = rewound.first().runs()
    client = MlflowClient(rewound.uri)
    client.set_tag(old.info.run_id, "reviewed", "yes")
    child = client.create_run(old.info.experiment_id, tags={"mlflow.parentRunId": old.info.run_id}, run_name="child")
    assert rewound.again() == []
    held = rewound.expect_replaced()
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == held.run_id
    assert held.tags["reviewed"] == "yes"
    assert held.read("checkpoints/last-step-5/last.ckpt") == b"weights"
    assert rejected_lines(rewound.dir, "mlflow") == set()
    for option in ("--verify", "--again"):
        assert main(["sync", str(rewound.dir), option]) == 0
    assert rewound.expect_replaced().run_id == held.run_id


def test_two_rewinds_and_a_resume(rewound):
    rewound.first().again()
    rewound.again()
    rewound.expect_replaced(rewinds=2)
    rewound.step = None
    with rewound.start("thread") as run:
        run.log_metrics({"loss": 3.5}, 8)
    rewound.expect_replaced(rewinds=2)


def test_media_alone_are_superseded(rewound):
    rewound.first()
    rewound.step = 5
    with rewound.start("thread") as run:
        run.log_image("picture", PICTURE, step=7)
        run.log_histogram("weights", np.arange(4.0), step=8)
    for rewinds, step in enumerate((7, 6)):
        rewound.step = step
        with rewound.start("thread"):
            pass
        assert len(rewound.runs()) == 2 + rewinds
    held = Held(rewound.uri, rewound.runs()[-1].info.run_id)
    assert [path.split("-")[1] for path in held.files("histograms")] == ["5"]
    assert "+step+7+" not in "".join(held.files("images"))


def test_steps_that_were_not_delivered_need_no_new_run(rewound):
    rewound.first("off").again("off")
    for options in ([], ["--again"]):
        assert main(["sync", str(rewound.dir), *options]) == 0
    (run,) = rewound.runs()
    assert run.data.metrics["loss"] == 17.0


def test_the_old_run_is_kept_if_only_it_has_something(rewound):
    (old,) = rewound.first().runs()
    for path in [*rewound.dir.rglob("checkpoints/*/last.ckpt"), rewound.directory / "last.ckpt"]:
        path.unlink()
    client = MlflowClient(rewound.uri)
    client.log_param(old.info.run_id, "own param", 1)
    client.log_metric(old.info.run_id, "own metric", 1.0)
    for name in ("a.txt", "b.txt"):
        client.log_text(old.info.run_id, "logged with MLflow's own client", name)
    (said,) = rewound.again()
    names = "own param, own metric, a.txt, b.txt, checkpoints/last-step-5/last.ckpt, and 1 more"
    assert said.endswith(f"replaces {old.info.run_id}, which is not deleted: only it has {names}")
    rewound.expect_replaced(is_deleted=False)
    assert len(rejected_lines(rewound.dir, "mlflow")) == 1


def test_a_user_who_may_not_delete_runs(rewound, proxy):
    rewound.uri = proxy.url
    proxy.fail("runs/delete ", status(403, "Permission denied"))
    (said,) = rewound.first().again()
    assert "which is not deleted: " in said
    assert "Permission denied" in said
    rewound.expect_replaced(is_deleted=False)


def test_a_copy_of_the_directory_that_knows_the_old_run(rewound):
    ids = rewound.first().dir / "mlflow.runs.json"
    before = ids.read_bytes()
    rewound.again()
    ids.write_bytes(before)
    assert main(["sync", str(rewound.dir), "--again"]) == 0
    rewound.expect_replaced()


# Without a new run


def expect_both(rewound):
    (run,) = rewound.runs()
    values = [value for _, value, _ in Held(rewound.uri, run.info.run_id).points("loss")]
    assert values == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 14.0, 15.0, 16.0, 17.0]


def test_without_the_option_both_stay_and_the_warning_names_it(rewound):
    (said,) = rewound.first(rewind=False).again()
    assert "MLflow keeps what was logged before the run was rewound; with MLFlowLogger(rewind=True)" in said
    expect_both(rewound)


def test_a_run_that_the_user_chose_is_not_replaced(rewound):
    client = MlflowClient(rewound.uri)
    run = client.create_run(client.create_experiment(rewound.id))
    (said,) = rewound.first(run_id=run.info.run_id).again()
    assert said.endswith("a run that was chosen with run_id is not replaced")
    expect_both(rewound)


def test_direct_use(make_logger):
    with pytest.warns(UserWarning, match="a Run deletes it"):
        make_logger(rewind=True).rewind(3)


# Faults


def test_the_answer_to_each_kind_of_request_may_be_lost(rewound, proxy, monkeypatch):
    """MLflow's client then sends the request again, although it was processed."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    rewound.uri = proxy.url
    rewound.first().again("off")
    make_logger = partial(MLFlowLogger, rewound.id, tracking_uri=proxy.url, rewind=True)
    proxy.fail_each(lost)
    EagerCourier(rewound.dir, "mlflow", make_logger, follow=False, grace_period=A_WHILE, retries_access=False).run()
    proxy.heal()
    rewound.expect_replaced()
    assert rejected_lines(rewound.dir, "mlflow") == set()


def killed_at(number, is_applied):
    """Return a method for `CheckedClient` that dies before a request, or after one that writes."""
    getattribute, left = CheckedClient.__getattr__, [number]

    def dying(client, name):
        if is_applied and name.startswith(("get_", "list_", "search_")):  # after a read all is as before it
            return getattribute(client, name)

        def call(*args, **kwargs):
            left[0] -= 1
            answer = getattribute(client, name)(*args, **kwargs) if left[0] or is_applied else None
            if left[0] == 0:
                die()
            return answer

        return call

    return mock.patch.object(CheckedClient, "__getattr__", dying)


@pytest.mark.slow
@pytest.mark.parametrize("is_applied", [False, True])
def test_a_courier_that_is_killed_at_any_request(make_logger, run_info, tmp_path, is_applied):
    for number in count(1):
        (tmp_path / str(number)).mkdir()
        journal = JournalOf(msgspec.structs.replace(run_info, id=uuid.uuid4().hex, dir=str(tmp_path / str(number))))
        logger = partial(make_logger, rewind=True)
        journal.add(Params(TIME, {"lr": 0.1}), Text(TIME, "note", ["text"], [["kept"]], 1))
        journal.log_all((step, {"loss": step + 0.5}) for step in range(4))
        journal.add(Text(TIME, "note", ["text"], [["superseded"]], 3))
        journal.deliver(logger)
        old = journal.last.run_id
        journal.add(Rewind(TIME + 5, 2))
        journal.log_all([(3, {"loss": 0.25})], first=6)
        with killed_at(number, is_applied), suppress(KilledError):
            journal.deliver(logger)
            return
        journal.deliver(logger)
        held = Held(journal.last)
        assert [run.info.run_id for run in runs_tagged(held.client, journal.run.id)] == [held.run_id]
        assert held.client.get_run(old).info.lifecycle_stage == "deleted"
        experiment = held.info.experiment_id
        assert len(held.client.search_runs([experiment], f"tags.`rankzero.rewound_from` = '{old}'")) == 1
        assert [value for _, value, _ in held.points("loss")] == [0.5, 1.5, 2.5, 0.25]
        assert (held.params, len(held.files("texts"))) == ({"lr": "0.1"}, 1)
        assert "rankzero.rewound_at" not in held.tags


@pytest.mark.slow
def test_a_process_that_is_killed(rewound, proxy):
    rewound.uri = proxy.url
    rewound.first().again("off")
    with subprocess.Popen([sys.executable, "-m", "rankzero.cli.app", "sync", rewound.dir]) as process:
        proxy.fail("log-batch", lambda handler: [handler.ask(), process.kill()][0])
    assert process.returncode < 0
    proxy.heal()
    assert main(["sync", str(rewound.dir)]) == 0
    rewound.expect_replaced()

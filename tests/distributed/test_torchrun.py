"""Only rank zero logs: real torchrun."""

import json

import pytest
from servers.wandb_server import WandbServer
from waiting import A_MOMENT, SOON

import rankzero
from rankzero.events.structs import Params, Start
from rankzero.testing.faults import stalled

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wandb_server():
    with WandbServer() as server:
        yield server
        assert server.problems == []


def with_wandb(job, server):
    """Let the job's processes log to W&B, with the files of its client elsewhere."""
    job.environment |= server.environment(job.directory)
    del job.environment["WANDB_DIR"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_job, wandb_server):
    """A successful training of four ranks."""
    job = make_job(tmp_path_factory.mktemp("trained"))
    with_wandb(job, wandb_server)
    job.torchrun("train.py", "rank zero first", "csv", "wandb")
    return job


def test_training(trained):
    (run,) = trained.runs
    reports = trained.reports()
    assert [report["rank"] for report in reports] == [0, 1, 2, 3]
    assert trained.steps(run) == [*range(20), 20]
    assert trained.ends(run) == ["success"]
    assert [event.pid for event in trained.events(run, Start)] == [reports[0]["pid"]]
    assert len(trained.events(run, Params)) == 1
    assert len((run / "metrics.csv").read_text().splitlines()) == 22
    assert "Warning" not in trained.output.replace("FutureWarning", "")


def test_tracker_has_one_run_with_every_value_once(trained, wandb_server):
    (run,) = trained.runs
    (stored,) = [each for each in wandb_server.store.runs.values() if each.project == "ddp"]
    zero, *others = trained.reports()
    assert stored.id == run.name
    assert [(each.step, each.value) for each in stored.scalars("loss", "trainer/global_step")] == list(
        enumerate(zero["losses"])
    )
    assert all(report["losses"] != zero["losses"] for report in others)
    assert stored.config["lr"] == 0.01
    assert stored.exit_code == 0


def test_nothing_lies_about(trained):
    assert trained.litter() == []


def test_ranks_agree_on_the_run_whenever_they_ask(trained):
    (run,) = trained.runs
    name = trained.events(run, Start)[0].run.name
    answers = [report[when] for report in trained.reports() for when in ("before", "after")]
    assert [answer for answer in answers if answer] == [[run.name, name, str(run)]] * 5


def test_other_ranks_do_nothing(trained):
    zero, *others = trained.reports()
    assert zero["couriers"] == 2
    assert zero["loaded"]
    for report in others:
        assert report["loaded"] == []
        assert report["experiment"] == "DummyExperiment"
        assert report["returned"] == [None] * 4


@pytest.mark.parametrize("order", ["rank zero last", "others never"])
def test_order_of_finishing_does_not_matter(job, wandb_server, order):
    with_wandb(job, wandb_server)
    job.torchrun("train.py", order, "csv", "wandb", ranks=2)

    (run,) = job.runs
    assert job.steps(run) == [*range(20), 20]
    assert job.ends(run) == ["success"]
    assert len(wandb_server.run(run.name).scalars("loss")) == 20
    assert wandb_server.run(run.name).exit_code == 0
    assert job.litter() == []


@pytest.mark.parametrize(
    ("trouble", "rank", "when", "logged", "ends"),
    [
        ("raises", 0, "in the middle", 6, ["failed"]),
        ("is killed", 1, "in the middle", 6, ["aborted", "failed"]),
        ("exits", 1, "before the first log call", 0, ["aborted", "failed"]),
        ("is killed", 0, "in the middle", 6, ["crashed"]),
    ],
)
def test_failing_rank_ends_the_job_and_the_run(job, trouble, rank, when, logged, ends):
    output = job.torchrun("trouble.py", trouble, str(rank), when, ranks=2, status=1)

    (run,) = job.runs
    # The other rank may have been in the middle of its next step.
    assert job.steps(run) in ([*range(logged)], [*range(logged - 1)])
    assert rankzero.read_run(run).status in ends
    assert ("the loss is a pineapple" in output) == (trouble == "raises")


def test_no_rank_waits_for_a_hanging_tracker(job):
    output = job.torchrun("trouble.py", "the tracker hangs", ranks=2)

    (run,) = job.runs
    zero, one = job.reports()
    assert job.steps(run) == list(range(20))
    assert max(zero["logging"], one["logging"]) < A_MOMENT
    assert 1.9 < zero["finishing"] < SOON  # finish() waits for as long as the script said
    assert one["finishing"] < A_MOMENT
    assert "continues in the background" in output


def test_no_rank_waits_for_a_tracker_that_becomes_unavailable(job):
    with WandbServer() as server:
        with_wandb(job, server)
        server.fail("UpsertBucket", stalled(60))
        job.torchrun("trouble.py", "none", "0", "never", "wandb", ranks=2)
        zero, one = job.reports()
        (run,) = job.runs

    assert job.steps(run) == list(range(20))
    assert max(zero["logging"], one["logging"]) < A_MOMENT
    assert one["finishing"] < A_MOMENT


def test_two_runs_pair_up_also_beside_another_job(job):
    jobs = []
    for name in ("a", "b"):
        reports = job.directory / name
        reports.mkdir()
        launcher = [*job.TORCHRUN, "--standalone", "--nproc-per-node=2"]
        jobs.append(job.start(launcher, "two_runs.py", name, REPORTS=str(reports)))
    job.wait(*jobs)

    runs = {job.events(run, Start)[0].run.name: run for run in job.runs}
    assert sorted(runs) == ["first a", "first b", "second a", "second b"]
    for name in ("a", "b"):
        for rank in range(2):
            report = json.loads((job.directory / name / f"{rank}.json").read_text())
            for each in ("first", "second"):
                run = runs[f"{each} {name}"]
                assert report[each] == [run.name, f"{each} {name}", str(run)]
    for run in job.runs:
        assert json.loads((run / "csv.position.json").read_text())["closed"]


def test_no_rank_waits_for_a_disabled_run(job):
    job.environment["RANKZERO_DISABLED"] = "1"
    job.torchrun("two_runs.py", "a", ranks=2)

    assert job.runs == []
    zero, one = job.reports()
    assert one["asking"] < SOON
    assert one["first"] == zero["first"]


def test_loggers_used_directly(job, wandb_server):
    with_wandb(job, wandb_server)
    job.torchrun("direct.py", ranks=2)

    (stored,) = [each for each in wandb_server.store.runs.values() if each.project == "direct"]
    zero, one = job.reports()
    values = [(step, step / 8) for step in range(10)]
    assert stored.id == "shared"
    assert [(each.step, each.value) for each in stored.scalars("loss", "trainer/global_step")] == values
    assert zero["experiments"][0] == "Run"
    assert one["experiments"] == ["DummyExperiment"] * 2
    assert one["versions"][0] == zero["versions"][0] == "shared"
    (csv,) = (job.directory / "runs").rglob("metrics.csv")
    assert len(csv.read_text().splitlines()) == 11

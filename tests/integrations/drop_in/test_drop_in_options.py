"""Options: resuming a run, offline use, the final status."""

from pathlib import Path

import pytest
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare

STATUSES = ("success", "finished", "failed", "aborted", "interrupted")


@pytest.mark.parametrize("tracker", ["csv", "tensorboard"])
def test_a_version_that_is_there(bench):
    found = []
    for kind in bench.each():
        side = kind.__module__
        for step in range(2):
            logger = kind(side, version=3)
            outcome(logger.log_hyperparams, {f"p{step}": step})
            logger.log_metrics({"loss": float(step)}, step)
            logger.finalize("success")
        arrived = bench.arrived(logger)
        found.append({"an existing version": (arrived["metrics"], arrived["params"])})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["csv", "tensorboard"])
def test_the_next_version(bench):
    found = []
    for kind in bench.each():
        root = Path(kind.__module__, "lightning_logs")
        for name in ("version_2", "version_7", "version_x", "version_9_old", "other"):
            (root / name).mkdir(parents=True)
        found.append({"the next version": kind(kind.__module__).version})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["csv", "tensorboard"])
@pytest.mark.parametrize("name", [None, "", "a/b"])
@pytest.mark.parametrize("version", [None, "v", 0])
def test_directories(bench, name, version):
    found = []
    for kind in bench.each():
        logger = kind(kind.__module__, name, version)
        logger.log_metrics({"loss": 1.0}, 0)
        logger.save()
        properties = ("name", "version", "save_dir", "root_dir", "log_dir")
        said = [str(getattr(logger, each)).replace(kind.__module__, "") for each in properties]
        found.append({"directories": (said, sorted(map(str, Path(kind.__module__).glob("**/"))) != [])})
        assert Path(logger.log_dir).is_dir()
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["csv", "tensorboard"])
def test_files_of_a_run(bench):
    found = []
    for kind in bench.each():
        before = set(Path().rglob("*"))
        logger = bench.make(kind, "a")
        logger.log_hyperparams({"lr": 0.1})
        logger.log_metrics({"loss": 1.0}, 0)
        logger.finalize("success")
        bench.end(logger)
        files = {path.name for path in set(Path().rglob("*")) - before if path.is_file()}
        found.append({"files": sorted(map(plain, files))})
    compare(bench.tracker, *found)


def plain(name):
    return "events.out.tfevents" if name.startswith("events.out.tfevents") else name


@pytest.mark.parametrize("tracker", ["mlflow", "wandb", "comet"])
def test_going_on_with_a_run(bench):
    found = []
    for kind in bench.each():
        first = bench.make(kind, "a")
        first.log_hyperparams({"lr": 0.1})
        first.log_metrics({"loss": 1.0}, 0)
        first.finalize("success")
        version = first.version
        bench.close()
        again = bench.make(kind, "a", **({"run_id": version} if bench.tracker == "mlflow" else {}))
        again.log_metrics({"loss": 2.0}, 1)
        again.finalize("failed")
        assert again.version == version
        arrived = bench.arrived(again)
        found.append({"going on with a run": (arrived["metrics"], arrived["params"], arrived["status"])})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["mlflow"])
def test_how_a_run_has_ended(bench):
    found = []
    for kind in bench.each():
        statuses = {}
        for status in STATUSES:
            logger = bench.make(kind, f"a{status}")
            logger.log_metrics({"loss": 1.0}, 0)
            raised = outcome(logger.finalize, status)
            statuses[status] = (raised, bench.arrived(logger)["status"])
        known = [statuses.pop(status, None) for status in ("success", "finished", "failed")]
        found.append({"success, finished or failed as a status": known, "an unknown status": statuses})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["csv"])
def test_when_rows_are_written(bench):
    found = []
    for kind in bench.each():
        seen = []
        logger = bench.make(kind, "a", flush_logs_every_n_steps=3)
        for step in (0, 1, 2, 10, 11, 12):
            logger.log_metrics({"loss": 1.0}, step)
            file = Path(logger.log_dir, "metrics.csv")
            seen.append(len(file.read_text().splitlines()) - 1 if file.exists() else 0)
        named = {name for name in dir(logger.experiment) if not name.startswith("_")}
        wanted = (
            "hparams",
            "log_dir",
            "log_hparams",
            "log_metrics",
            "metrics",
            "metrics_file_path",
            "metrics_keys",
            "save",
        )
        found.append({"flush_logs_every_n_steps": seen, "methods of experiment": [name in named for name in wanted]})
    compare(bench.tracker, *found)

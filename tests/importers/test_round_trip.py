"""Deliver runs to a tracker and import them: only data that the tracker cannot hold is lost."""

import re
from pathlib import Path

import pytest
from importers.comparison import Journal, differences, log_everything
from plugins.comet.direct import QUIET
from recorded import events_in
from waiting import A_WHILE

import rankzero
from rankzero.cli.app import main
from rankzero.loggers.dispatch import dispatch
from rankzero.plugins.registry import get_plugins
from rankzero.testing.samples import samples

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "move-history.md"
TRACKERS = {
    "CSV": ("csv", "save_dir=files", "files/*/*/metrics.csv"),
    "TensorBoard": ("tensorboard", "save_dir=logs", "logs"),
    "MLflow": ("mlflow", "save_dir=store", "sqlite:///store/mlflow.db"),
    "W&B": ("wandb", "offline=true", "runs/p/*/wandb"),
}
"""Column → the logger, its option, and the source to import."""

DIRECT = {
    "Comet": ("comet", {"online": False, "offline_directory": "archives", **QUIET}, "archives"),
    "Neptune": (
        "neptune",
        {"mode": "offline", "prefix": "", "description": "it works", "source_files": [], "git_ref": False},
        ".neptune",
    ),
}
"""Column → the logger that is used without a run, its options, and the source to import."""

SLOW = dict.fromkeys(["MLflow", "W&B", "Comet"], pytest.mark.slow)


def held(tracker):
    """Return a column of the table in the documentation: logged data → what the tracker holds."""
    section = PAGE.read_text().partition("## What each tracker cannot hold\n")[2].partition("\n## ")[0]
    header, *rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    column = header.split(" | ").index(tracker)
    return {cells[0]: cells[column] for cells in (row.split(" | ") for row in rows)}


def round_trip(tracker, log):
    """Deliver a run to a tracker, and import it from there; return the directories of both."""
    if tracker in DIRECT:
        return direct_round_trip(*DIRECT[tracker], log)
    logger, option, source = TRACKERS[tracker]
    is_offline = option == "offline=true"
    loggers = {logger: {"offline": True}} if is_offline else "csv"
    run = logged_run(log, loggers, "thread" if is_offline else "off")
    if not is_offline:
        assert main(["sync", str(run.dir), "--to", logger, "-o", option]) == 0
    main(["import", logger, *(map(str, Path().glob(source)) if "://" not in source else [source]), "--dir", "imported"])
    (journal,) = Path("imported").rglob("journal.jsonl")
    return run.dir, journal.parent


def direct_round_trip(name, options, source, log):
    """Do the same with a logger that is used without a run."""
    run = logged_run(log, "csv", "off")
    logger = get_plugins().load_logger(name)(name=run.name, tags=["baseline"], **options)
    for event in events_in(run.dir):
        dispatch(event, logger, run.dir)
    logger.finalize("failed")
    logger.close()
    assert main(["import", name, source, "--dir", "imported"]) == 0
    (journal,) = Path("imported").rglob("journal.jsonl")
    return run.dir, journal.parent


def logged_run(log, loggers, delivery):
    options = {"name": "night-owl-7", "group": "study", "notes": "it works", "tags": ["baseline"]}
    run = rankzero.start(loggers, dir="runs", project="p", delivery=delivery, **options)
    log(run)
    run.finish("failed", timeout=A_WHILE)
    return run


def test_a_run_equals_itself(undelivered):
    with rankzero.start(dir="runs") as run:
        log_everything(run, samples(Path("samples")))
    assert set(differences(Journal(run.dir), Journal(run.dir)).values()) == {"✓"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracker", [pytest.param(each, marks=SLOW.get(each, ())) for each in [*TRACKERS, *DIRECT]])
def test_what_a_tracker_cannot_hold_is_in_the_documentation(tracker, undelivered, swallowed_warnings):
    original, imported = map(Journal, round_trip(tracker, lambda run: log_everything(run, samples(Path("samples")))))
    swallowed_warnings.clear()
    assert differences(original, imported) == held(tracker)


@pytest.mark.slow
@pytest.mark.parametrize("tracker", [*TRACKERS, *DIRECT])
def test_more_points_than_an_importer_reads_at_once(tracker, undelivered):
    def log(run):
        for step in range(10_500):
            run.log_metrics({"loss": step / 8, "acc": float(step)}, step=step)

    logged, found = (rankzero.read_run(each).metrics for each in round_trip(tracker, log))
    for name in ("loss", "acc"):
        assert found[name].step.tolist() == logged[name].step.tolist()
        assert found[name].value.tolist() == logged[name].value.tolist()

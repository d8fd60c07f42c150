"""Summaries: equal to W&B's own for finite values, and correct after NaN, resuming and repeated delivery."""

import math
from pathlib import Path

import pytest
import wandb
from plugins.wandb.delivered import Delivered, wandb_server

from rankzero.events.structs import DefineMetric, Finish
from rankzero.files.writing import read_own_json
from rankzero.testing.journals import DyingCourier, JournalOf, KilledError
from rankzero_wandb import WandbLogger
from rankzero_wandb.rows import Definition, State, Summaries

TIME = 1_700_000_000.25
STEP = "trainer/global_step"
VALUES = [3.0, 0.5, 8.0, 2.0]
KINDS = ["min", "max", "mean", "last", "first", "min,max", "min, max, mean, last, first", "none", None]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("summaries")
    with wandb_server(directory) as server:
        yield Delivered(server, directory)


def log_values(logger, values=VALUES, name="loss"):
    for step, value in enumerate(values):
        logger.log_metrics({name: value}, step)


def key_of(kinds):
    return f"m {kinds}"


def define_and_log(logger):
    for kinds in KINDS:
        logger.define_metric(key_of(kinds), summary=kinds)
    for step, value in enumerate(VALUES):
        logger.log_metrics({key_of(kinds): value for kinds in KINDS}, step)


@pytest.fixture(scope="module")
def of_w_and_b(delivered):
    """The summary of W&B's client."""
    with wandb.init(project="p", id="its-own", dir=delivered.directory) as run:
        for kinds in KINDS:
            if kinds is not None:
                run.define_metric(key_of(kinds), summary=kinds.replace(" ", ""))
        for value in VALUES:
            run.log({key_of(kinds): value for kinds in KINDS})
    return delivered.server.run("its-own").summary


@pytest.fixture(scope="module")
def ours(delivered):
    return delivered.run(define_and_log)[1].summary


@pytest.mark.parametrize("kinds", KINDS)
def test_it_equals_that_of_w_and_b_for_finite_values(ours, of_w_and_b, kinds):
    assert ours.get(key_of(kinds), "nothing") == of_w_and_b.get(key_of(kinds), "nothing")


def test_it_is_the_same_in_direct_use(delivered, of_w_and_b):
    summary = delivered.directly(define_and_log).summary
    assert {key_of(kinds): summary.get(key_of(kinds)) for kinds in KINDS} == {
        key_of(kinds): of_w_and_b.get(key_of(kinds)) for kinds in KINDS
    }


def log_more(run):
    run.define_metric("val_accuracy", summary="max")
    run.define_metric("poisoned", summary="min,max,mean,last,first")
    run.define_metric("never finite", summary="min")
    run.define_metric("best loss", summary="best", goal="minimize")
    run.define_metric("best acc", summary="best", goal="maximize")
    run.define_metric("goal", goal="maximize")
    run.define_metric("no goal", summary="best")
    run.define_metric("wrong goal", goal="up")
    run.define_metric("unknown", summary="median")
    run.define_metric("half known", summary="median,min")
    run.define_metric("axis", step_metric="samples", summary="min")
    run.define_metric("val/first", summary="first")
    run.define_metric("val/*", summary="min")
    run.define_metric("val/acc", summary="max")
    run.define_metric("val/deep/*", summary="mean")
    run.define_metric("twice", summary="min")
    names = ["val_accuracy", "best loss", "best acc", "goal", "no goal", "wrong goal", "unknown", "half known"]
    names += ["axis", "val/first", "val/loss", "val/acc", "val/deep/x", "twice", "late", "plain"]
    for step, value in enumerate([*VALUES, math.nan]):
        run.log_metrics(dict.fromkeys(names, value) | {"samples": step}, step)
        run.log_metrics({"poisoned": math.nan, "never finite": math.inf}, step)
    for step, value in enumerate([math.nan, 2.0, math.inf, -1.0, -math.inf]):
        run.log_metrics({"poisoned": value, "never finite": math.nan}, step)
    run.define_metric("twice", summary="max")
    run.define_metric("late", summary="min")
    run.log_metrics({"twice": 4.0, "late": 4.0}, 10)


EXPECTED = {
    "val_accuracy": {"max": 8.0},
    "poisoned": {"min": -1.0, "max": 2.0, "mean": 0.5, "last": -1.0, "first": 2.0},
    "best loss": {"min": 0.5},
    "best acc": {"max": 8.0},
    "goal": {"max": 8.0},
    "half known": {"min": 0.5},
    "axis": {"min": 0.5},
    "val/first": {"first": 3.0},
    "val/loss": {"min": 0.5},
    "val/acc": {"max": 8.0},
    "val/deep/x": {"mean": 3.375},
    "twice": {"max": 8.0},
    "late": {"min": 4.0},
}


@pytest.fixture(scope="module")
def more(delivered):
    return delivered.run(log_more)[1]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_definition_is_kept(more, name):
    assert more.summary[name] == EXPECTED[name]


@pytest.mark.parametrize("name", ["no goal", "wrong goal", "unknown", "plain"])
def test_without_one_it_is_the_last_value(more, name):
    assert math.isnan(more.summary[name])


def test_metrics_without_finite_values_have_no_summary(more):
    assert "never finite" not in more.summary


def test_the_axis_of_a_metric(more):
    assert more.metrics["axis"].step_metric == "samples"
    assert {more.metrics[name].step_metric for name in ("val_accuracy", "val/*", "val/acc", "goal")} == {STEP}


def test_direct_use_warns_of_unsupported_summaries(closing, tmp_path):
    logger = closing(WandbLogger(mode="disabled", save_dir=tmp_path))

    def define():
        logger.define_metric("a", summary="median")
        logger.define_metric("b", summary="median,min")
        logger.define_metric("c", summary="best")
        logger.define_metric("d", goal="up")

    with pytest.warns(UserWarning, match="^define_metric") as warnings:
        define()
    assert [str(each.message) for each in warnings] == [
        "define_metric('a'): there is no summary median; W&B shows its last value",
        "define_metric('b'): there is no summary median",
        "define_metric('c'): summary=\"best\" needs a goal; W&B shows its last value",
        "define_metric('d'): goal='up' is neither minimize nor maximize; W&B shows its last value",
    ]


def test_nan_does_not_affect_summaries_in_direct_use(delivered):
    def log(logger):
        logger.define_metric("loss", summary="min,max,mean,last,first")
        log_values(logger, [math.nan, 2.0, math.inf, -1.0, -math.inf])
        logger.define_metric("val/*", goal="minimize")
        log_values(logger, [3.0, 1.0, 2.0], "val/loss")

    summary = delivered.directly(log).summary
    assert summary["loss"] == EXPECTED["poisoned"]
    assert summary["val/loss"] == {"min": 1.0}


# Resuming


def test_it_continues_when_the_run_is_resumed(delivered):
    def log_first(run):
        run.define_metric("loss", summary="min,max,mean,first,last")
        run.define_metric("val/*", summary="max")
        log_values(run, [4.0, 1.0])
        log_values(run, [7.0], "val/acc")

    def log_rest(run):
        run.log_metrics({"loss": 2.0, "val/acc": 5.0, "val/new": 1.0}, 2)
        run.log_metrics({"loss": 9.0}, 3)

    delivered.run(log_first, run_id="resumed")
    _, stored = delivered.run(log_rest, run_id="resumed")
    assert stored.summary["loss"] == {"min": 1.0, "max": 9.0, "mean": 4.0, "first": 4.0, "last": 9.0}
    assert (stored.summary["val/acc"], stored.summary["val/new"]) == ({"max": 7.0}, {"max": 1.0})


@pytest.fixture
def journal(run_info):
    journal = JournalOf(run_info)
    journal.add(DefineMetric(TIME, "loss", summary="min,mean"), DefineMetric(TIME, "acc", goal="maximize"))
    journal.log_all([(step, {"loss": value, "acc": value}) for step, value in enumerate(VALUES)])
    return journal


def summary_of(server, run_info):
    summary = server.run(run_info.id).summary
    return summary["loss"], summary["acc"]


@pytest.mark.slow
def test_it_survives_killed_couriers(delivered, journal, run_info):
    with pytest.raises(KilledError):
        journal.deliver(WandbLogger, courier=DyingCourier)
    for path in run_info_files(run_info):
        path.unlink()  # the killed one had not saved it yet
    journal.add(Finish(TIME, "success"))
    journal.deliver(WandbLogger)
    assert summary_of(delivered.server, run_info) == ({"min": 0.5, "mean": 3.375}, {"max": 8.0})


def run_info_files(run_info):
    """Return the state files, of which there must be at least one."""
    found = list(Path(run_info.dir).glob("wandb-*.json"))
    assert found
    return found


def test_data_that_is_delivered_again_counts_once(tmp_path):
    state = State(definitions=[Definition("loss", STEP, ("min", "mean"))])
    for lines in (range(4), range(2, 6)):
        summaries = Summaries(state)
        for line in lines:
            summaries.add({"loss": float(line)}, line)
        state.save(tmp_path / "run")
        state = read_own_json(tmp_path / "run", State)
    assert Summaries(state).take_changed() == {"loss": {"min": 0.0, "mean": 2.5}}


def test_numbers_beyond_floats_do_not_damage_the_state(tmp_path):
    state = State(definitions=[Definition("*", STEP, ("min", "mean"))])
    summaries = Summaries(state)
    for value in (1.5e308, 1.5e308, 10**400, 2**70, math.nan):
        summaries.add({"a": value}, None)
    state.save(tmp_path / "run")
    loaded = read_own_json(tmp_path / "run", State)
    assert loaded is not None
    assert (loaded.values["a"].count, loaded.values["a"].min) == (3, 2**70)
    assert math.isfinite(loaded.values["a"].mean)

"""The recorder beside Lightning's Trainer: the same log calls give the same names, steps and values."""

import pytest

pytest.importorskip("lightning")
from hypothesis import HealthCheck, given, settings
from integrations.oracle import regression
from integrations.oracle.by_lightning import run_with_lightning
from integrations.oracle.by_recorder import run_with_recorder
from integrations.oracle.differences import assert_same
from integrations.oracle.random_training import trainings
from integrations.oracle.training import METRICS, NUMBERS, Logged, Training

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:.*isinstance.treespec",
    "ignore:.*is accumulated as floating point",
    "ignore:no step was written",
    "ignore:.*has no value of the step",
)

STEP, EPOCH, FORKED = {"on_step": True}, {"on_step": False, "on_epoch": True}, {"on_step": True, "on_epoch": True}
LEVELS = {"default": {}, "step": {**STEP, "on_epoch": False}, "epoch": EPOCH, "forked": FORKED}
TWO_LOADERS = ((3, 2), (4, 4, 1))


@pytest.fixture
def compare(tmp_path, caplog):
    caplog.set_level("ERROR")

    def compare(training):
        lightnings = run_with_lightning(training)
        assert_same(run_with_recorder(training, tmp_path), lightnings, training)
        return lightnings

    return compare


def names_of(outcome):
    return {point.name for point in outcome.points}


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("place", ["train", "validate", "test"])
def test_reductions_and_batch_sizes(compare, place, levels):
    logged = [
        Logged(f"{reduce_fx}{is_sized}", place, options={**LEVELS[levels], "reduce_fx": reduce_fx}, is_sized=is_sized)
        for reduce_fx in ("mean", "sum", "min", "max", "avg", max)
        for is_sized in (False, True)
    ]
    outcome = compare(Training(tuple(logged), validation=((4, 4, 3),), test=((4, 2, 3),), log_every=2))
    assert len(names_of(outcome)) == len(logged) * (2 if levels == "forked" else 1)


@pytest.mark.parametrize("place", ["train", "validate"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_kinds_of_numbers(compare, kind, place):
    logged = [
        Logged(f"{levels}/{reduce_fx}", place, kind, {**options, "reduce_fx": reduce_fx})
        for levels, options in LEVELS.items()
        for reduce_fx in ("mean", "sum", "min", "max")
    ]
    compare(Training(tuple(logged), validation=((4, 1),)))


@pytest.mark.parametrize("log_every", [1, 3, 50, 0])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_when_step_values_are_written(compare, accumulate, log_every):
    logged = (Logged("loss"), Logged("forked", options=FORKED), Logged("val", "validate", options=FORKED))
    training = Training(
        logged, epochs=3, batches=(4,) * 7, accumulate=accumulate, log_every=log_every, validation=((2, 2),)
    )
    outcome = compare(training)
    assert ("loss" in names_of(outcome)) == (log_every in (1, 3))
    assert {"forked_epoch", "val_step", "val_epoch"} <= names_of(outcome)


@pytest.mark.parametrize("validation", [(), ((3, 2),), TWO_LOADERS], ids=len)
@pytest.mark.parametrize("validate_every", [None, 1, 2, 5])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("sanity_batches", [0, 2])
def test_when_validation_takes_place(compare, validation, validate_every, accumulate, sanity_batches):
    logged = (
        Logged("loss", options=FORKED),
        Logged("acc", kind="accuracy", options=FORKED),
        Logged("val", "validate"),
        Logged("val_forked", "validate", options=FORKED),
        Logged("val_acc", "validate", "accuracy"),
        Logged("gap", "epoch"),
    )
    training = Training(
        logged,
        log_every=2,
        accumulate=accumulate,
        validation=validation,
        validate_every=validate_every if validation else None,
        sanity_batches=sanity_batches,
    )
    outcome = compare(training)
    assert ("val" in names_of(outcome)) == (len(validation) == 1)
    assert ("val_forked_step/dataloader_idx_1" in names_of(outcome)) == (len(validation) == 2)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("kind", METRICS)
def test_torchmetrics(compare, kind, levels):
    logged = tuple(
        Logged(f"{place}{every}", place, kind, LEVELS[levels], every=every)
        for place in ("train", "validate", "test")
        for every in (1, 2)
    )
    compare(Training(logged, log_every=2, validation=TWO_LOADERS, test=((4, 2),), sanity_batches=1))


@pytest.mark.parametrize("options", [{"logger": False}, {"logger": True}, {"prog_bar": True}, {"enable_graph": True}])
def test_where_values_go(compare, options):
    logged = tuple(
        Logged(f"{place}/{levels}", place, "with graph", {**LEVELS[levels], **options})
        for place in ("train", "validate")
        for levels in LEVELS
    )
    outcome = compare(Training((*logged, Logged("other")), validation=((3,),)))
    assert names_of(outcome) == {"other"} if options == {"logger": False} else len(names_of(outcome)) == 11
    assert {"train/forked_epoch", "validate/default"} <= outcome.metrics[0].keys()


@pytest.mark.parametrize("place", ["validate", "test"])
def test_names_without_the_index_of_the_loader(compare, place):
    logged = tuple(
        Logged(f"{kind}/{levels}", place, kind, {**LEVELS[levels], "add_dataloader_idx": False})
        for kind in ("float32", "accuracy")
        for levels in LEVELS
    )
    outcome = compare(Training(logged, validation=TWO_LOADERS, test=TWO_LOADERS))
    assert {"float32/default_0", "accuracy/forked_1_epoch"} <= names_of(outcome)


@pytest.mark.parametrize("levels", LEVELS)
def test_several_at_once(compare, levels):
    logged = tuple(
        Logged(place, place, options=LEVELS[levels], in_dict=True, every=2) for place in ("train", "validate", "test")
    )
    outcome = compare(Training((*logged, Logged("gap", "epoch", in_dict=True)), validation=TWO_LOADERS, test=((1,),)))
    assert "gap2" in names_of(outcome)


@pytest.mark.parametrize("levels", ["step", "epoch"])
@pytest.mark.parametrize("kind", ["float", "int", "float32", "int64"])
def test_a_metric_named_step_is_the_step(compare, kind, levels):
    outcome = compare(Training((Logged("step", kind=kind, options=LEVELS[levels]), Logged("loss", options=FORKED))))
    assert names_of(outcome) == {"loss_step", "loss_epoch"}
    name = "loss_step" if levels == "step" else "loss_epoch"
    assert min(point.step for point in outcome.points if point.name == name) >= 100


def test_a_metric_named_step_in_validation(compare):
    outcome = compare(Training((Logged("step", "validate"), Logged("loss", "validate")), validation=((3, 3),)))
    assert {(point.name, point.step) for point in outcome.points} == {("loss", 101), ("loss", 107)}


@pytest.mark.parametrize("in_training", LEVELS)
@pytest.mark.parametrize("in_validation", LEVELS)
@pytest.mark.parametrize("validate_every", [None, 2])
def test_the_same_name_in_training_and_validation(compare, in_training, in_validation, validate_every):
    logged = (
        Logged("loss", "train", options=LEVELS[in_training]),
        Logged("loss", "validate", options=LEVELS[in_validation]),
    )
    compare(Training(logged, log_every=2, validation=((3, 2),), validate_every=validate_every))


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("log_every", [1, 2, 3])
def test_metrics_logged_in_some_batches_only(compare, log_every, accumulate):
    logged = tuple(
        Logged(f"{place}{every}{first}{levels}", place, kind, LEVELS[levels], every, first)
        for place in ("train", "validate")
        for kind, every, first in (("float32", 2, 1), ("int", 3, 0), ("accuracy", 4, 3), ("float32", 9, 0))
        for levels in LEVELS
    )
    training = Training(
        logged,
        epochs=3,
        batches=(4, 3, 4, 4, 4, 2, 1),
        log_every=log_every,
        accumulate=accumulate,
        validation=((2,) * 5,),
    )
    compare(training)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_loaders_that_do_not_say_how_many_batches_they_have(compare, accumulate):
    logged = (Logged("loss", options=FORKED), Logged("val", "validate", options=FORKED), Logged("test", "test"))
    compare(
        Training(
            logged,
            log_every=2,
            accumulate=accumulate,
            validation=TWO_LOADERS,
            test=((1,),),
            has_lengths=False,
            sanity_batches=2,
        )
    )


def test_stopping_early(compare):
    logged = (Logged("loss", options=FORKED), Logged("gap", "epoch"), Logged("test", "test", options=FORKED))
    outcome = compare(Training(logged, epochs=5, stop_after=1, test=((1, 2),)))
    assert [(point.step, point.epoch) for point in outcome.points if point.name == "test_epoch"] == [(10, 2)]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(training=trainings())
def test_any_training(compare, training):
    compare(training)


def test_a_training_that_learns(tmp_path, caplog):
    """Learning rates, gradient norms and a scheduler that looks at a metric; a wrong value changes all later ones."""
    caplog.set_level("ERROR")
    lightnings, ours = regression.train_with_lightning(), regression.train_by_hand(tmp_path)
    assert {name: [step for step, _ in points] for name, points in ours.items()} == {
        name: [step for step, _ in points] for name, points in lightnings.items()
    }
    for name, points in lightnings.items():
        assert [value for _, value in ours[name]] == pytest.approx([value for _, value in points], rel=1e-5), name
    assert lightnings["loss_epoch"][-1][1] < lightnings["loss_epoch"][0][1] / 2
    assert lightnings["lr-SGD"][-1][1] < 0.1 * 0.98**32 / 2, "the plateau's scheduler has had nothing to do"
    assert {"lr-SGD-momentum", "grad_2.0_norm_total", "grad_2.0_norm/0.weight", "val_error"} <= ours.keys()

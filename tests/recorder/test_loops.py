"""The recorder's loops: steps, the times and steps of rows, and loops that end early."""

import itertools
import warnings

import pytest
import torch
from recorder.recorder_rows import Row, rows, series

import rankzero
from rankzero.errors import RecorderError

BATCH = torch.ones(4, 2)

pytestmark = pytest.mark.filterwarnings("ignore:no step was written")


def batches(count):
    return [BATCH] * count


# Steps


def test_data_without_a_step_gets_that_of_the_loop(run):
    rec = run.recorder(log_every_n_steps=3, accumulate_grad_batches=2)
    for _ in rec.epochs(2):
        for _ in rec.train(range(4)):
            run.log_metrics({"mine": 0.0})
            run.log_text("note", "in training")
        for _ in rec.validate(range(2)):
            run.log_metrics({"checked": 0.0})
        run.log_text("note", "between")
    run.log_metrics({"after": 0.0})
    run.log_metrics({"after": 0.0})
    assert [step for step, _ in series(run, "mine")] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [step for step, _ in series(run, "checked")] == [1, 1, 3, 3]
    assert [step for step, _ in series(run, "after")] == [4, 5]
    steps = [each.step for each in rankzero.read_run(run.dir).texts["note"]]
    assert steps == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]


def test_a_metric_of_a_loop_that_was_left_counts_on(run):
    rec = run.recorder()
    for _ in rec.train(range(4)):
        run.log_metrics({"mine": 0.0})
        break
    run.log_metrics({"after": 0.0})
    assert [row.step for row in rows(run)] == [0, 1]


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (3, [2, 5]), (7, [6]), (8, []), (0, [])]
)
def test_log_every_n_steps(run, every, steps):
    rec = run.recorder(log_every_n_steps=every)
    due = []
    for index in rec.train(range(7)):
        due.append(rec.should_log)
        rec.log("x", index)
    assert series(run, "x") == [(step, step) for step in steps]
    assert [step for step, is_due in enumerate(due) if is_due] == steps
    assert not rec.should_log


def test_steps_continue_over_epochs(run):
    rec = run.recorder(log_every_n_steps=3)
    seen = []
    for epoch in rec.epochs(3):
        for index in rec.train(range(4)):
            seen.append((rec.epoch, rec.batch_idx, rec.global_step))
            rec.log("x", 10 * epoch + index, on_epoch=True, reduce_fx="sum", batch_size=1)
    assert seen == [(epoch, index, 4 * epoch + index) for epoch in range(3) for index in range(4)]
    assert rows(run) == [
        Row("train", 0, 2, {"x_step": 2}),
        Row("train", 0, 3, {"x_epoch": 6}),
        Row("train", 1, 5, {"x_step": 11}),
        Row("train", 1, 7, {"x_epoch": 46}),
        Row("train", 2, 8, {"x_step": 20}),
        Row("train", 2, 11, {"x_step": 23}),
        Row("train", 2, 11, {"x_epoch": 86}),
    ]
    assert (rec.epoch, rec.global_step, rec.batch_idx, rec.dataloader_idx) == (3, 12, -1, None)


@pytest.mark.parametrize(("accumulate", "stepping"), [(1, {0, 1, 2, 3, 4}), (2, {1, 3, 4}), (3, {2, 4}), (9, {4})])
def test_gradient_accumulation(run, accumulate, stepping):
    rec = run.recorder(log_every_n_steps=1, accumulate_grad_batches=accumulate)
    for index in rec.train(range(5)):
        assert rec.should_step == (index in stepping) == rec.should_log
        rec.log("x", index)
    assert rec.global_step == len(stepping)
    assert series(run, "x") == list(enumerate(sorted(stepping)))
    assert not rec.should_step


def test_gradient_accumulation_restarts_in_each_epoch(run):
    rec = run.recorder(log_every_n_steps=2, accumulate_grad_batches=2)
    steps = [rec.should_step for _ in rec.epochs(2) for _ in rec.train(range(3))]
    assert steps == [False, True, True] * 2
    assert rec.global_step == 4


def test_a_value_of_a_batch_that_does_not_step_is_in_the_next_row(run):
    rec = run.recorder(log_every_n_steps=2, accumulate_grad_batches=2)
    for index in rec.train(range(8)):
        if index == 0:
            rec.log("sparse", torch.tensor(5.0))
        rec.log("x", index)
    assert rows(run) == [Row("train", 0, 1, {"sparse": 5.0, "x": 3}), Row("train", 0, 3, {"x": 7})]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("nan"))])
@pytest.mark.parametrize("on_epoch", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_metric_named_step_that_is_not_a_step(run, value, on_epoch):
    rec = run.recorder(log_every_n_steps=1)
    for index in rec.train(range(2)):
        rec.log("x", index, on_step=not on_epoch, on_epoch=on_epoch, batch_size=1)
        rec.log("step", value, on_step=not on_epoch, on_epoch=on_epoch, batch_size=1)
    assert [value for _, value in series(run, "x")] == ([0.5] if on_epoch else [0, 1])


# Evaluation


def test_validation_after_training(run):
    rec = run.recorder(log_every_n_steps=0)
    for _ in rec.epochs(2):
        for _ in rec.train(batches(3)):
            rec.log("loss", 1.0, on_epoch=True)
        for _ in rec.validate(batches(2)):
            rec.log("val", 2.0, on_step=True)
        rec.log("gap", rec["val"] - rec["loss"])
        assert rec["gap"] == 1.0
    assert rows(run) == [
        Row("train", 0, 2, {"loss_epoch": 1.0}),
        Row("validate", 0, 0, {"val_step": 2.0}),
        Row("validate", 0, 1, {"val_step": 2.0}),
        Row("validate", 0, 2, {"val_epoch": 2.0}),
        Row(None, 0, 2, {"gap": 1.0}),
        Row("train", 1, 5, {"loss_epoch": 1.0}),
        Row("validate", 1, 2, {"val_step": 2.0}),
        Row("validate", 1, 3, {"val_step": 2.0}),
        Row("validate", 1, 5, {"val_epoch": 2.0}),
        Row(None, 1, 5, {"gap": 1.0}),
    ]


def test_validation_within_training(run):
    rec = run.recorder(log_every_n_steps=2)
    for index in rec.train(range(4)):
        rec.log("x", index, on_epoch=True, batch_size=1)
        if index in (0, 1):
            for _ in rec.validate(range(7)):
                assert (rec.global_step, rec.dataloader_idx) == (index, None)
                rec.log("val", index, batch_size=1)
            assert rec["val"] == index
            assert rec.batch_idx == index
            rec.log("after", index)
    assert rows(run) == [
        Row("validate", 0, 0, {"val": 0}),
        Row("validate", 0, 1, {"val": 1}),
        Row("train", 0, 1, {"x_step": 1, "after": 1}),
        Row("train", 0, 3, {"x_step": 3}),
        Row("train", 0, 3, {"x_epoch": 1.5}),
    ]


def test_validation_and_test_without_training(run):
    rec = run.recorder()
    for _ in rec.validate(batches(2)):
        rec.log("val", 1.0)
    for _ in rec.epochs(2):
        list(rec.train(batches(3)))
    for _ in rec.test(batches(1)):
        rec.log("test", 2.0)
    for _ in rec.validate(batches(1)):
        rec.log("val", 3.0)
    assert rows(run) == [
        Row("validate", 0, 0, {"val": 1.0}),
        Row("test", 2, 6, {"test": 2.0}),
        Row("validate", 2, 6, {"val": 3.0}),
    ]


def test_several_dataloaders(run):
    rec = run.recorder()
    seen = []
    for batch in rec.test([1, 2], [], [3], itertools.islice(itertools.count(4), 2)):
        seen.append((batch, rec.dataloader_idx, rec.batch_idx))
        rec.log("x", batch, on_step=True, batch_size=1)
        if rec.dataloader_idx == 3:
            rec.log("last", batch, batch_size=1, add_dataloader_idx=False)
    assert seen == [(1, 0, 0), (2, 0, 1), (3, 2, 0), (4, 3, 0), (5, 3, 1)]
    assert rows(run, "test")[-1].values == {
        "x_epoch/dataloader_idx_0": 1.5,
        "x_epoch/dataloader_idx_2": 3,
        "x_epoch/dataloader_idx_3": 4.5,
        "last": 4.5,
    }
    assert series(run, "x_step/dataloader_idx_3") == [(0, 4), (1, 5)]
    assert rec["x/dataloader_idx_0"] == rec["x_epoch/dataloader_idx_0"] == 1.5


def test_sanity_check_writes_and_keeps_nothing(run):
    rec = run.recorder(log_every_n_steps=1)
    seen = []
    for batch in rec.sanity_check(itertools.count(), [1], [], limit=2):
        seen.append((batch, rec.dataloader_idx))
        rec.log("val", 1.0, on_step=True, prog_bar=True, batch_size=1)
    assert seen == [(0, 0), (1, 0), (1, 1)]
    assert rows(run) == []
    assert rec.metrics == {}
    assert (rec.global_step, rec.epoch) == (0, 0)
    for _ in rec.validate([BATCH]):
        rec.log("val", 2.0, on_step=True)
    assert series(run, "val_step") == [(0, 2.0)]
    assert series(run, "val_epoch") == [(0, 2.0)]


def test_without_epochs_each_train_loop_is_one(run):
    rec = run.recorder(log_every_n_steps=0)
    for _ in range(2):
        for _ in rec.train(batches(2)):
            rec.log("x", 1.0, on_epoch=True)
        rec.log("gap", 2.0)
    assert [row[:3] for row in rows(run)] == [("train", 0, 1), (None, 0, 1), ("train", 1, 3)]
    run.finish()
    assert [row[:3] for row in rows(run)][3:] == [(None, 1, 3)]


def test_before_the_train_loop_of_an_epoch(run):
    rec = run.recorder(log_every_n_steps=0)
    for _ in rec.epochs(2):
        rec.log("before", 1.0)
        list(rec.train(batches(2)))
        rec.log("after", 2.0)
        rec.log("after", 4.0)
    assert rows(run) == [Row(None, 0, 1, {"before": 1.0, "after": 3.0}), Row(None, 1, 3, {"before": 1.0, "after": 3.0})]


# Loaders


@pytest.mark.filterwarnings("ignore:no batch went through rec.train")
def test_no_batches(run):
    rec = run.recorder(log_every_n_steps=1)
    with pytest.warns(UserWarning, match="got no batch. Is its loader an iterator that is exhausted"):
        assert list(rec.train([])) == []
    for _ in rec.epochs(3):
        assert list(rec.train([])) == []
        assert list(rec.validate([], [])) == []
        rec.log("between", 1.0)
    assert rec.global_step == 0
    assert [row[:3] for row in rows(run)] == [(None, 1, 0), (None, 2, 0)]
    assert list(rec.epochs(0)) == []


def test_too_few_steps_for_any_row(run):
    rec = run.recorder()
    for _ in rec.train(range(9)):
        rec.log("x", 1.0)
    with pytest.warns(UserWarning, match="no step was written: there were 9, and log_every_n_steps=50"):
        run.finish()
    assert rows(run) == []


def test_epochs_without_a_train_loop(run):
    rec = run.recorder()
    epochs = rec.epochs(2)
    for _ in range(2):
        rec.log("x", next(epochs))
    with pytest.warns(UserWarning, match=r"no batch went through rec\.train\(\)"):
        assert list(epochs) == []
    assert series(run, "x") == [(0, 0.0), (0, 1.0)]


def test_loaders_that_are_given_as_a_list(run):
    loader = torch.utils.data.DataLoader(torch.ones(2))
    with pytest.raises(RecorderError, match=r"one by one: rec\.validate\(\*loaders\)"):
        run.recorder().validate([loader, loader])


def test_learning_rates_that_would_overwrite_each_other(run):
    rec = run.recorder()
    one, other = (torch.optim.SGD([torch.ones(1)], lr) for lr in (0.1, 0.2))
    rec.monitor_learning_rate(one)
    with pytest.raises(RecorderError, match="'lr-SGD' is monitored already"):
        rec.monitor_learning_rate(other)
    rec.monitor_learning_rate(other, log_key_prefix="d/")


def test_loaders_without_length(run):
    rec = run.recorder(log_every_n_steps=1)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([1.0, 2.0, 3.0])

    for batch in rec.train(torch.utils.data.DataLoader(Stream(), batch_size=2)):
        rec.log("x", batch.sum(), on_epoch=True)
    assert series(run, "x_step") == [(0, 3.0), (1, 3.0)]
    assert series(run, "x_epoch") == [(1, 3.0)]


def test_batches_that_are_none(run):
    rec = run.recorder(log_every_n_steps=1)
    assert list(rec.train([None, None])) == [None, None]
    assert rec.global_step == 2


def test_a_loader_that_raises(run):
    rec = run.recorder(log_every_n_steps=10)

    def loader():
        yield BATCH
        raise OSError("the disk is gone")

    def train():
        for _ in rec.train(loader()):
            rec.log("x", 1.0, on_epoch=True)

    with pytest.raises(OSError, match="gone"):
        train()
    assert rows(run, "train") == []
    assert rec.global_step == 1


def test_batches_are_taken_one_by_one(run):
    taken = []

    def loader():
        for index in range(3):
            taken.append(index)
            yield index

    for index in run.recorder().train(loader()):
        assert taken == list(range(index + 1))


def test_a_loader_of_real_workers(run):
    rec = run.recorder(log_every_n_steps=1)
    loader = torch.utils.data.DataLoader(torch.arange(6.0), batch_size=2, num_workers=1)
    for batch in rec.train(loader):
        rec.log("x", batch.sum())
    assert series(run, "x") == [(0, 1.0), (1, 5.0), (2, 9.0)]


# Ending early


def test_continue(run):
    rec = run.recorder(log_every_n_steps=1)
    for index in rec.train(range(4)):
        if index % 2:
            continue
        rec.log("x", index)
    assert series(run, "x") == [(0, 0), (2, 2)]
    assert rec.global_step == 4


def test_break_in_training(run):
    rec = run.recorder(log_every_n_steps=10)
    for epoch in rec.epochs(2):
        for index in rec.train(range(10)):
            rec.log("x", index, on_epoch=True, batch_size=1)
            if index == 2:
                break
        assert rec.global_step == 3 * (epoch + 1)
        for _ in rec.validate(range(2)):
            rec.log("val", 1.0, batch_size=1)
    assert rows(run) == [
        Row("train", 0, 2, {"x_step": 2}),
        Row("train", 0, 2, {"x_epoch": 1.0}),
        Row("validate", 0, 2, {"val": 1.0}),
        Row("train", 1, 5, {"x_step": 2}),
        Row("train", 1, 5, {"x_epoch": 1.0}),
        Row("validate", 1, 5, {"val": 1.0}),
    ]


def test_break_in_a_batch_that_does_not_step(run):
    """What the optimizer did not do is no step; the next one has the number of the one that was begun."""
    rec = run.recorder(log_every_n_steps=1, accumulate_grad_batches=3)
    for index in rec.train(range(9)):
        rec.log("x", index)
        if index == 3:
            break
    assert rec.global_step == 1
    assert series(run, "x") == [(0, 2), (1, 3)]


def test_break_in_validation_within_training(run):
    rec = run.recorder(log_every_n_steps=1)
    for index in rec.train(range(2)):
        for batch in rec.validate(range(5)):
            rec.log("val", batch, batch_size=1)
            if batch == 1:
                break
        rec.log("x", index)
    assert rows(run) == [
        Row("validate", 0, 0, {"val": 0.5}),
        Row("train", 0, 0, {"x": 0}),
        Row("validate", 0, 1, {"val": 0.5}),
        Row("train", 0, 1, {"x": 1}),
    ]


def test_break_at_the_end_of_a_body(run):
    """What was left in a step is written with that step, though nothing but the next step comes after it."""
    rec = run.recorder(log_every_n_steps=1)
    for index in rec.train(range(2)):
        for batch in rec.validate(range(5)):
            rec.log("val", index, batch_size=1)
            if batch == 1:
                break
    rec.log("gap", 1.0)
    assert series(run, "val") == [(0, 0), (1, 1)]


def test_break_out_of_the_epochs(run):
    rec = run.recorder(log_every_n_steps=1)
    for epoch in rec.epochs(5):
        for _ in rec.train(range(2)):
            rec.log("x", epoch, on_epoch=True, batch_size=1)
        rec.log("gap", 1.0)
        if epoch == 1:
            break
    for _ in rec.test(range(1)):
        rec.log("test", 1.0, batch_size=1)
    assert rec["gap"] == 1.0
    assert [row[:3] for row in rows(run, "train", None)] == [
        *[("train", 0, 0), ("train", 0, 1), ("train", 0, 1), (None, 0, 1)],
        *[("train", 1, 2), ("train", 1, 3), ("train", 1, 3), (None, 1, 3)],
    ]


def test_an_exception_that_is_caught(run):
    """The loop goes on later; what was logged before the exception is not lost."""
    rec = run.recorder(log_every_n_steps=1)
    for epoch in rec.epochs(2):
        try:
            for index in rec.train(range(3)):
                rec.log("x", index, on_epoch=True, batch_size=1)
                if epoch == 0 and index == 1:
                    raise MemoryError
        except MemoryError:
            pass
    assert series(run, "x_epoch") == [(1, 0.5), (4, 1.0)]
    assert series(run, "x_step") == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 2)]


def test_an_exception_that_ends_the_run(tmp_path):
    def train(run):
        rec = run.recorder(log_every_n_steps=1)
        with run:
            for index in rec.train(range(3)):
                rec.log("x", index, on_epoch=True, batch_size=1)
                for batch in rec.validate(range(2)):
                    rec.log("val", batch, batch_size=1)
                    if index == 1:
                        raise MemoryError

    run = rankzero.start(dir=tmp_path, delivery="off")
    with pytest.raises(MemoryError):
        train(run)
    assert rankzero.read_run(run.dir).status == "failed"
    assert series(run, "x_epoch") == []
    assert series(run, "val") == [(0, 0.5)]


def test_an_iterator_that_is_left_open(run):
    rec = run.recorder(log_every_n_steps=2)
    kept = iter(rec.train(range(5)))
    for value in (1, 3):
        next(kept)
        rec.log("x", value, on_epoch=True, batch_size=1)
    another = iter(rec.train(range(1)))
    next(another)
    rec.log("x", 10, on_epoch=True, batch_size=1)
    assert series(run, "x_epoch") == [(1, 2.0)]
    with pytest.raises(RecorderError):
        next(kept)
    run.finish()
    assert series(run, "x_epoch") == [(1, 2.0), (2, 10)]


def test_a_validation_that_is_left_open_ends_with_the_batch_around_it(run):
    rec = run.recorder(log_every_n_steps=1)
    kept = []
    for index in rec.train(range(2)):
        kept.append(iter(rec.validate(range(5))))
        next(kept[-1])
        rec.log("val", index, batch_size=1)
    rec.log("gap", 1.0)
    assert series(run, "val") == [(0, 0), (1, 1)]
    run.finish()
    assert series(run, "gap") == [(1, 1.0)]


def test_a_loop_by_next(run):
    rec = run.recorder()
    loop = iter(rec.validate(range(2)))
    assert next(loop) == 0
    rec.log("val", 1.0, batch_size=1)
    assert next(loop) == 1
    rec.log("val", 3.0, batch_size=1)
    assert next(loop, "no more") == "no more"
    assert series(run, "val") == [(0, 2.0)]


def test_tqdm_around_a_loop(run):
    tqdm = pytest.importorskip("tqdm").tqdm
    rec = run.recorder(log_every_n_steps=10)
    bar = tqdm(rec.train(range(20)), disable=True)
    assert bar.total == 20
    for index in bar:
        rec.log("x", index, on_epoch=True, batch_size=1)
        if index == 2:
            break
    for _ in rec.validate(range(1)):
        rec.log("val", 1.0, batch_size=1)
    assert rows(run) == [
        Row("train", 0, 2, {"x_step": 2}),
        Row("train", 0, 2, {"x_epoch": 1.0}),
        Row("validate", 0, 2, {"val": 1.0}),
    ]


def test_lengths(run):
    rec = run.recorder()
    assert (len(rec.train(range(3))), len(rec.validate([1], [2, 3])), len(rec.sanity_check([1], [2] * 9))) == (3, 3, 3)
    with pytest.raises(TypeError):
        len(rec.test([1], itertools.count()))


def test_a_batch_in_which_nothing_was_logged_does_not_count_if_the_loop_is_left_in_it(run):
    rec = run.recorder(log_every_n_steps=10)
    for index, _ in zip(rec.train(itertools.count()), range(3), strict=False):
        rec.log("x", index, on_epoch=True, batch_size=1)
    assert rec.global_step == 3
    list(rec.validate([]))
    assert rows(run) == [Row("train", 0, 2, {"x_step": 2}), Row("train", 0, 2, {"x_epoch": 1.0})]
    for index, _ in zip(rec.validate(itertools.count()), range(3), strict=False):
        rec.log("val", index, on_step=True, batch_size=1)
    assert series(run, "val_step") == [(0, 0), (1, 1), (2, 2)]


def test_finish_writes_the_values_so_far(run):
    rec = run.recorder(log_every_n_steps=10)
    for index in rec.train(range(10)):
        rec.log("x", index, on_epoch=True, batch_size=1)
        if index == 1:
            break
    rec.log("gap", 1.0)
    run.finish()
    assert series(run, "x_epoch") == [(1, 0.5)]
    assert series(run, "gap") == [(1, 1.0)]
    assert rankzero.read_run(run.dir).status == "success"


@pytest.mark.parametrize("status", ["failed", "aborted"])
def test_finish_after_a_failure_writes_no_epoch(run, status):
    rec = run.recorder(log_every_n_steps=10)
    for index in rec.train(range(10)):
        rec.log("x", index, on_epoch=True, batch_size=1)
        if index == 1:
            break
    run.finish(status)
    assert series(run, "x_epoch") == []


def test_values_so_far_when_training_fails(run):
    """The step's row says where it was; there is no epoch."""
    rec = run.recorder(log_every_n_steps=10)
    kept = iter(rec.train(range(10)))
    next(kept)
    rec.log("x", 1.0, on_epoch=True, batch_size=1)
    run.finish("failed")
    assert rows(run) == [Row("train", 0, 0, {"x_step": 1.0})]


def test_an_epoch_that_an_exception_ended_is_repeated(run):
    rec = run.recorder(log_every_n_steps=10)

    def train():
        for _ in rec.epochs(2):
            for index in rec.train(range(2)):
                rec.log("x", index)
                if (rec.global_step, index) == (3, 1):
                    raise MemoryError

    with pytest.raises(MemoryError):
        train()
    assert (rec.state_dict()["epoch"], rec.epoch) == (1, 1)
    assert list(rec.epochs(2)) == [1]


def test_going_back_within_the_epochs(run):
    """A training that diverges, and goes back to its last checkpoint."""
    rec = run.recorder()
    seen, state = [], None
    for epoch in rec.epochs(3):
        seen.append(epoch)
        list(rec.train(range(2)))
        if epoch == 0:
            state = rec.state_dict()
        if len(seen) == 2:
            rec.load_state_dict(state)
    assert seen == [0, 1, 1, 2]
    assert rec.global_step == 6


def test_a_run_is_rewound_to_the_state_of_its_recorder(run):
    rec = run.recorder(log_every_n_steps=1)
    for first in (True, False):
        for _ in rec.epochs(3):
            for index in rec.train(range(2)):
                rec.log("x", index, on_epoch=True, batch_size=1)
            if first and rec.epoch == 0:
                state = rec.state_dict()
        if first:
            rec.load_state_dict(state)
    read, whole = rankzero.read_run(run.dir), rankzero.read_run(run.dir, keep_rewound=True)
    assert read.metrics["x_step"].step.tolist() == [0, 1, 2, 3, 4, 5]
    assert read.metrics["x_epoch"].step.tolist() == [1, 3, 5]
    assert len(whole.metrics["x_step"]) == 10


def test_an_epoch_whose_train_loop_was_left_is_done_if_its_body_continued(run):
    """A limit of batches, and then an end after the validation."""
    rec = run.recorder()
    for _ in rec.epochs(5):
        for index in rec.train(range(9)):
            rec.log("x", index)
            if index == 1:
                break
        for _ in rec.validate(range(1)):
            rec.log("val", 1.0, batch_size=1)
        break
    assert (rec.state_dict()["epoch"], rec.epoch) == (1, 1)
    assert list(rec.epochs(2)) == [1]


def test_a_recorder_of_a_resumed_run_that_counts_from_zero_warns(tmp_path):
    state = {}
    for name in ("first", "forgotten", "restored"):
        with rankzero.start(dir=tmp_path, run_id="r", delivery="off") as run:
            rec = run.recorder(log_every_n_steps=1)
            if name == "restored":
                rec.load_state_dict(state)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                for _ in range(2):  # it is said once
                    for index in rec.train(range(3)):
                        rec.log("x", index)
            expected = ["the run continues after step 5, but "] if name == "forgotten" else []
            assert [str(each.message)[:36] for each in said] == expected
            assert all(each.filename == __file__ for each in said)
            state = rec.state_dict()

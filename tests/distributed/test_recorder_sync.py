"""The recorder's ``sync_dist``: real torchrun with gloo, compared with numpy."""

import numpy as np
import pytest
from distributed.scripts.synced_data import BATCHES, data
from waiting import A_WHILE

from rankzero.events.structs import Metrics, Start

EPOCHS = range(4)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request):
    return request.param


@pytest.fixture(scope="module")
def synced(tmp_path_factory, make_job, ranks):
    job = make_job(tmp_path_factory.mktemp(f"ranks{ranks}"))
    job.torchrun("recorder_sync.py", ranks=ranks)
    return job


def told(job, scene):
    return [report[scene] for report in job.reports()]


def rows(job, scene):
    """Return the rows of the run of a scene, as (step, epoch, stage, values)."""
    (run,) = (run for run in job.runs if job.events(run, Start)[0].run.name == scene)
    return [(each.step, each.epoch, each.stage, each.values) for each in job.events(run, Metrics)]


def logged(ranks, counts, epoch=0):
    """Return the values of some ranks in an epoch, and the sizes of their batches."""
    found = [(value, size) for rank in ranks for size, value in data(rank, counts[rank], epoch)]
    return np.array(found).reshape(-1, 2).T


def weighted(ranks, counts, epoch=0):
    values, sizes = logged(ranks, counts, epoch)
    return np.average(values, weights=sizes)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_reductions_over_unequal_numbers_of_batches(synced, ranks, epoch):
    values, _ = logged(range(ranks), BATCHES, epoch)
    expected = {
        "mean": weighted(range(ranks), BATCHES, epoch),
        "sum": values.sum(),
        "min": values.min(),
        "max": values.max(),
        "of_0": weighted(range(0, ranks, 2), BATCHES, epoch),
        "of_1": weighted(range(1, ranks, 2), BATCHES, epoch),
    }
    for report in told(synced, "reduced"):
        assert report["read"][epoch] == pytest.approx(expected)
    written = [row for row in rows(synced, "reduced") if row[1] == epoch]
    assert [values for *_, values in written] == [pytest.approx(expected)]


def test_names_are_exchanged_once(synced):
    for report in told(synced, "reduced"):
        assert report["collectives"] == [[1, 1], [1, 0], [1, 0], [1, 0]]


def test_step_values(synced, ranks):
    found = rows(synced, "steps")
    for epoch in range(3):
        for step in (1, 3, 5):
            sizes, values_of = zip(*(data(rank, 6, epoch)[step] for rank in range(ranks)), strict=True)
            (values,) = (values for at, _, stage, values in found if at == 6 * epoch + step and "loss_step" in values)
            assert values["loss_step"] == pytest.approx(np.average(values_of, weights=sizes))
            assert values["own"] == values_of[0]
        (values,) = (values for _, at, _, values in found if at == epoch and "loss_epoch" in values)
        assert values["loss_epoch"] == pytest.approx(weighted(range(ranks), [6] * ranks, epoch))
        for index, count in enumerate((BATCHES[0], 1)):
            name = f"val/dataloader_idx_{index}"
            assert [values[name] for _, at, _, values in found if at == epoch and name in values] == [
                pytest.approx(weighted([0], [count], epoch))
            ]


def test_a_step_value_is_read_reduced(synced, ranks):
    def over_all(epoch, step):
        sizes, values = zip(*(data(rank, 5, epoch)[step] for rank in range(ranks)), strict=True)
        return np.average(values, weights=sizes), max(values)

    expected = {}
    for epoch, last in ((0, 4), (1, 2)):  # the second loop is left by break
        for step in range(3):
            mean, largest = over_all(epoch, step)
            expected[f"{epoch}/{step}"] = [mean, mean, largest]
        mean, largest = over_all(epoch, last)
        of_epoch = weighted(range(ranks), [last + 1] * ranks, epoch)
        expected[f"{epoch}/end"] = [largest, of_epoch, mean, of_epoch, of_epoch]
    for report in told(synced, "reading"):
        assert report["read"] == {key: pytest.approx(values) for key, values in expected.items()}
        # `metrics` takes no other rank: it has what was reduced before, never this rank's own value
        assert report["unread"] == [None, pytest.approx(over_all(0, 4)[1])]


def test_one_all_reduce_for_each_step_that_is_written_and_one_for_the_epoch(synced):
    for report in told(synced, "steps"):
        assert report["collectives"][1:] == [[4, 0]] * 2


def test_steps_that_only_some_ranks_have(synced, ranks):
    found = rows(synced, "uneven")
    for epoch in range(3):
        values = [values["loss_step"] for _, at, _, values in found if at == epoch and "loss_step" in values]
        assert len(values) == BATCHES[0]
        for step, value in enumerate(values):
            there = [data(rank, BATCHES[rank], epoch)[step] for rank in range(ranks) if step < BATCHES[rank]]
            sizes, values_of = zip(*there, strict=True)
            assert value == pytest.approx(np.average(values_of, weights=sizes))
        (value,) = (values["loss_epoch"] for _, at, _, values in found if at == epoch and "loss_epoch" in values)
        assert value == pytest.approx(weighted(range(ranks), BATCHES, epoch))
    for report in told(synced, "uneven"):
        assert report["read"][0]["loss_epoch"] == pytest.approx(value)


def test_metrics_of_some_ranks(synced, ranks):
    (row,) = (values for *_, values in rows(synced, "some"))
    everybody = [3] * ranks
    assert row["all"] == pytest.approx(weighted(range(ranks), everybody))
    assert row["group"] == pytest.approx(weighted([0, 1], everybody))
    assert row["zero"] == pytest.approx(weighted([0], everybody))
    assert np.isnan(float(row["nan"]))
    assert np.isposinf(float(row["inf"]))

    zero, *_ = reports = told(synced, "some")
    assert "KeyError" in zero["unreadable"]
    for rank, report in enumerate(reports):
        assert report["read"][0]["all"] == pytest.approx(row["all"])
        assert ("group" in report["read"][0]) == (rank < 2)
        assert report["collectives"][0][0] == (2 if rank < 2 else 1)


def test_ranks_that_disagree_get_an_error(synced):
    for report in told(synced, "differing"):
        assert "the metric 'loss' is logged with reduce_fx='mean' on one rank and with 'max' on" in report["said"]


@pytest.mark.slow
def test_a_failure_of_rank_zero_blocks_others_at_most_for_the_groups_timeout(job):
    job.torchrun("recorder_trouble.py", ranks=2)

    (run,) = job.runs
    zero, one = job.reports()
    assert zero["error"] == "ArithmeticError"
    assert one["error"] not in (None, "ArithmeticError")
    assert zero["took"] + 1 < one["took"] < A_WHILE  # the script has it wait for three seconds, torch for 30 minutes
    assert job.ends(run) == ["failed"]
    assert [event.values["loss"] for event in job.events(run, Metrics)] == [1.5]

"""The index of a run always equals the journal, however often it was updated."""

import math
import os
import shutil
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader.conftest import START

import rankzero.reader.index.curves
import rankzero.reader.index.run_index
from rankzero.errors import RunNotFoundError
from rankzero.events.structs import (
    Console,
    DefineMetric,
    Finish,
    Lost,
    Metrics,
    Params,
    Rewind,
    Tags,
    Text,
    encode,
)
from rankzero.reader.exporting.base import RunReader, fitting
from rankzero.reader.index.files import load_index, load_summary
from rankzero.reader.index.run_index import index_run, summarize, summarize_runs
from rankzero.reader.run_data import read_run
from rankzero.rundir.layout import CURVES, JOURNAL, SUMMARY


def row(step, time=1.0, epoch=None, **values):
    return Metrics(time, step, values, epoch)


def rows(values, name="loss"):
    return [row(step, float(step), **{name: value}) for step, value in enumerate(values)]


def points(series):
    """Return (step, time, value) of each point, with None for NaN."""
    columns = (series.step.tolist(), series.time.tolist(), series.value.tolist())
    return [tuple(None if each != each else each for each in point) for point in zip(*columns, strict=True)]


def downsampled(series, buckets):
    """Return the points of a series that a curve keeps, found in the simplest way."""
    value = series.value.tolist()
    size = 1
    while len(value) > size * buckets:
        size *= 2
    kept = set()
    for first in range(0, len(value), size):
        bucket = range(first, min(first + size, len(value)))
        finite = [at for at in bucket if math.isfinite(value[at])]
        gaps = [at for at in bucket if not math.isfinite(value[at])]
        kept |= {bucket[0], bucket[-1], *gaps[:1], *gaps[-1:]}
        if finite:
            kept |= {min(finite, key=value.__getitem__), max(finite, key=value.__getitem__)}
    all_points = points(series)
    return [all_points[at] for at in sorted(kept)]


def assert_says_what_the_journal_says(index, run, buckets):
    assert {name: points(curve) for name, curve in index.curves.items()} == {
        name: downsampled(series, buckets) for name, series in run.metrics.items()
    }
    assert list(index.curves) == list(run.metrics)
    summary, data = index.summary, index.data()
    for name, series in run.metrics.items():
        found, finite = summary.metrics[name], [each for each in series.value.tolist() if math.isfinite(each)]
        assert found.count == len(series)
        assert (found.min, found.max) == ((min(finite), max(finite)) if finite else (None, None))
        step, _, last = points(series)[-1]
        assert (found.last_step, None if found.last != found.last else found.last) == (fitting(step), last)
        assert found.first_step == fitting(points(series)[0][0])
    steps = [step for series in run.metrics.values() for step, _, _ in points(series) if step is not None]
    assert summary.step == max(steps, default=None)
    same = ("info", "status", "finished", "updated", "paused", "params", "tags", "definitions", "lines", "damaged")
    for name in same:
        assert getattr(data, name) == getattr(run, name), name
        assert getattr(summary, name) == getattr(run, name), name
    for name in ("console", "texts", "losses", "starts", "rewinds", "deliveries", "loggers", "dir"):
        assert getattr(data, name) == getattr(run, name), name
    assert summary.loggers == list(run.loggers)


numbers = st.floats(-9, 9) | st.sampled_from([math.nan, math.inf, -math.inf]) | st.integers(-9, 9)
integers = st.sampled_from([0, 1, 2**53, 2**53 + 1, 2**60])
steps = st.none() | st.integers(0, 60) | st.just(2**70)
events = st.one_of(
    st.builds(lambda step, a, epoch: row(step, 2.0, epoch, a=a), steps, numbers, st.none() | st.integers(0, 5)),
    st.builds(lambda step, a, b: row(step, 2.0, a=a, b=b), steps, numbers, integers),
    st.builds(lambda step, b: row(step, 3.0, b=b), steps, integers),
    st.lists(numbers, min_size=20, max_size=60).map(
        lambda values: b"".join(encode(row(step, 3.0, a=value)) for step, value in enumerate(values))
    ),
    st.builds(Rewind, st.just(1.0), st.integers(0, 60)),
    st.sampled_from(
        [
            b'{"type":"metrics","time":1.0,"val\n',
            b'{"type":"metr' + encode(row(5, a=7)),
            b"\n",
            b"\xff\xfe\n",
            b'{"time":4.5,"type":"metrics","step":3,"values":{"a":4}}\n',
            encode(Console(4.0, "a line")),
            encode(Text(4.0, "note", ["text"], [["a"]], 50)),
            encode(Params(4.0, {"lr": math.nan, "seed": 2**80, "opt": {"name": "sgd"}})),
            encode(Params(4.0, {"opt": {"beta": 0.9}})),
            encode(Tags(4.0, ["late", "first"])),
            encode(DefineMetric(4.0, "a", None, "min", "minimize")),
            encode(Lost(4.0, 3, 3.0, "disk full")),
            encode(Finish(5.0, "success")),
            encode(START),
            encode(msgspec.structs.replace(START, time=200.0, resumed=True)),
        ]
    ),
)


@given(st.lists(events, max_size=25), st.lists(st.integers(0, 25), max_size=4), st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_index_that_grew_equals_the_journal(monkeypatch, tmp_path_factory, history, cuts, has_start):
    monkeypatch.setattr("rankzero.journal.tail._LINES_AT_ONCE", 300)
    monkeypatch.setattr(rankzero.reader.index.curves, "BUCKETS", 4)
    monkeypatch.setattr(rankzero.reader.index.curves, "_POINTS_AT_ONCE", 7)
    run_dir = tmp_path_factory.mktemp("run")
    history = [START] * has_start + [row(0, a=1)] + history
    kept = None
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(history)], strict=True):
        with open(run_dir / JOURNAL, "ab") as journal:
            for each in history[first:last]:
                journal.write(each if isinstance(each, bytes) else encode(each))
        if last:
            kept = kept or index_run(run_dir)
            kept.update()
            index_run(run_dir)
    run = read_run(run_dir)
    assert_says_what_the_journal_says(kept, run, 4)
    assert_says_what_the_journal_says(index_run(run_dir), run, 4)
    for name in (CURVES, SUMMARY):
        (run_dir / name).unlink()
    assert_says_what_the_journal_says(index_run(run_dir), run, 4)


# Curves


def test_a_metric_with_few_points_keeps_all(write):
    run_dir = write(START, *rows([step / 3 for step in range(1024)]))
    assert points(index_run(run_dir).curves["loss"]) == points(read_run(run_dir).metrics["loss"])


def test_spikes_and_gaps_of_many_points_are_kept(write):
    values = [math.sin(step / 100) for step in range(20_000)]
    values[5_001], values[7_003], values[12_345] = 99.0, math.nan, -99.0
    index = index_run(write(START, *rows(values)))
    curve = points(index.curves["loss"])
    assert len(curve) < 6 * 1024
    assert {(5001, 5001.0, 99.0), (7003, 7003.0, None), (12345, 12345.0, -99.0)} <= {*curve}
    found = index.summary.metrics["loss"]
    assert (found.min, found.min_step, found.max, found.max_step) == (-99.0, 12345, 99.0, 5001)


def test_curves_have_epochs_if_some_were_logged(write):
    index = index_run(write(START, row(0, epoch=0, a=1), row(1, a=2), row(1, b=3)))
    assert np.array_equal(index.curves["a"].epoch, [0, math.nan], equal_nan=True)
    assert index.curves["b"].epoch is None
    assert np.array_equal(read_run(index.dir).metrics["a"].epoch, [0, math.nan], equal_nan=True)
    assert read_run(index.dir).metrics["b"].epoch is None


def test_stored_curves_do_not_change_when_the_run_continues(write):
    index = index_run(write(START, row(0, a=1)))
    curve = index.curves["a"]
    write(row(1, a=2))
    assert index.update()
    assert (points(curve), len(index.curves["a"])) == ([(0, 1.0, 1)], 2)
    assert not index.update()


# What is read


@pytest.fixture
def bytes_read(monkeypatch):
    """Return how many bytes of journals the index has read."""
    read = [0]
    real = rankzero.reader.index.run_index.complete_lines

    def counted(path, end=None, start=0):
        for chunk in real(path, end, start):
            read[0] += len(chunk)
            yield chunk

    monkeypatch.setattr(rankzero.reader.index.run_index, "complete_lines", counted)
    return lambda: read[0]


def test_only_what_is_new_is_read(write, bytes_read):
    run_dir = write(START, *rows(range(3000)), Finish(9.0, "success"))
    index_run(run_dir)
    before = bytes_read()
    index_run(run_dir)
    summarize(run_dir)
    assert bytes_read() == before == (run_dir / JOURNAL).stat().st_size
    write(row(3000, loss=1), Finish(9.0, "success"))
    assert index_run(run_dir).summary.metrics["loss"].count == 3001
    assert bytes_read() == (run_dir / JOURNAL).stat().st_size


def test_everything_but_metrics_is_read_without_the_metrics(write, bytes_read):
    run_dir = write(START, *rows(range(20_000)), Console(3.0, "a line"), *rows(range(20_000)))
    index = index_run(run_dir)
    before = bytes_read()
    assert [each.text for each in index.data().console] == ["a line"]
    assert bytes_read() - before < 1000


def test_an_incomplete_line_is_read_when_it_is_complete(write):
    line = encode(row(1, a=2))
    run_dir = write(START, row(0, a=1), line[:-5])
    assert index_run(run_dir).summary.metrics["a"].count == 1
    write(line[-5:])
    assert index_run(run_dir).summary.metrics["a"].count == 2


@pytest.mark.parametrize("change", ["shorter", "another", "same size"])
def test_a_journal_that_was_changed_is_read_again(write, change):
    run_dir = write(START, *rows(range(100)))
    index_run(run_dir)
    journal = run_dir / JOURNAL
    content = journal.read_bytes()
    match change:
        case "shorter":
            journal.write_bytes(content[: content.index(b'"step":50')].rpartition(b"\n")[0] + b"\n")
        case "another":
            journal.write_bytes(content.replace(b"amber", b"green") + content)
        case "same size":
            journal.write_bytes(content.replace(b'"loss":99', b'"loss":77'))
    os.utime(journal, ns=(1, 1))
    run = read_run(run_dir)
    assert_says_what_the_journal_says(index_run(run_dir), run, 1024)


def test_a_copy_of_a_run_is_not_read_again(write, tmp_path, bytes_read):
    run_dir = write(START, *rows(range(100)))
    index_run(run_dir)
    before = bytes_read()
    shutil.copytree(run_dir, tmp_path / "copy")
    os.utime(tmp_path / "copy" / JOURNAL)
    summary = index_run(tmp_path / "copy").summary
    assert (summary.dir, summary.info.dir) == (tmp_path / "copy", str(tmp_path / "copy"))
    assert bytes_read() == before


def test_the_index_of_a_running_run_is_not_written_at_each_reading(write):
    run_dir = write(START, *rows(range(3000)))
    index = index_run(run_dir)
    written = (run_dir / CURVES).stat().st_mtime_ns
    write(row(3000, loss=1))
    assert index.update()
    assert (run_dir / CURVES).stat().st_mtime_ns == written
    write(Finish(9.0, "success"))
    assert index.update()
    assert load_summary(run_dir).finished == 9.0


def test_a_rewind_whose_newline_is_missing_fails_no_command(write):
    run_dir = write(START, row(5, a=1), encode(Rewind(1.0, 3)).rstrip(), row(4, a=2))
    assert index_run(run_dir).summary.step == 5
    assert sum(map(len, RunReader(run_dir).rows())) == 2


# Files that are not as they were written


def test_damaged_files_are_not_believed(write):
    run_dir = write(START, *rows([0.5, math.nan, *range(2000)]), Console(1.0, "a line"), Finish(2.0, "success"))
    run = read_run(run_dir)
    index_run(run_dir)
    intact = {name: (run_dir / name).read_bytes() for name in (CURVES, SUMMARY)}
    for name, content in intact.items():
        damaged = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 997)]
        for each in [b"", content[:-1], content[: len(content) // 2], content + b"\0", os.urandom(200), *damaged[:15]]:
            (run_dir / name).write_bytes(each)
            assert load_index(run_dir) is None
        assert_says_what_the_journal_says(index_run(run_dir), run, 1024)
        assert (run_dir / name).read_bytes() == content


def forged(content, change):
    """Return the content of a file of the index with something changed, and a valid checksum."""
    header, _, body = content.partition(b"\n")
    value = msgspec.msgpack.decode(body)
    change(value)
    body = msgspec.msgpack.encode(value)
    return header[:-8] + b"%08x\n" % zlib.crc32(body) + body


def offsets(*numbers):
    return np.array(numbers, np.int64).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(others=offsets(0, 2**60)),
        lambda index: index.update(others=offsets(-5, 10)),
        lambda index: index.update(others=offsets(1)),
        lambda index: index.update(others=b"abc"),
        lambda index: index.update(curves={}),
        lambda index: index["curves"]["loss"].__setitem__(0, "ddx"),
        lambda index: index["curves"]["loss"].__setitem__(1, b"12345678"),
        lambda index: index["curves"].update(loss=["qdd", b"", b"", b"", b"", b""]),
        lambda index: index["summary"]["info"].update(id="../other"),
        lambda index: index["summary"].update(loggers=["../../key"]),
        lambda index: index["summary"].update(params_json="[" * 5000),
        lambda index: index["summary"]["journal"].update(read=-1),
        lambda index: index["summary"].update(metrics={"loss": {"count": "many"}}),
        lambda index: index.clear(),
    ],
)
def test_forged_files_are_not_believed(write, change):
    run_dir = write(START, *rows(range(10)), Finish(2.0, "success"))
    index_run(run_dir)
    content = (run_dir / CURVES).read_bytes()
    (run_dir / CURVES).write_bytes(forged(content, change))
    assert load_index(run_dir) is None
    assert_says_what_the_journal_says(index_run(run_dir), read_run(run_dir), 1024)
    assert (run_dir / CURVES).read_bytes() == content


def test_a_link_in_place_of_a_file_is_replaced(write, tmp_path):
    run_dir = write(START, row(0, a=1))
    (tmp_path / "precious").write_text("mine")
    for name in (CURVES, SUMMARY):
        (run_dir / name).symlink_to(tmp_path / "precious")
    index_run(run_dir)
    assert (tmp_path / "precious").read_text() == "mine"
    assert load_summary(run_dir) is not None


def test_a_directory_that_cannot_be_written_is_read(write, monkeypatch):
    run_dir = write(START, row(0, a=1))

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr("rankzero.reader.index.files.replacing", refuse)
    assert index_run(run_dir).summary.metrics["a"].last == 1
    assert sorted(os.listdir(run_dir)) == [JOURNAL]


def test_no_run_is_reported(write, tmp_path):
    with pytest.raises(RunNotFoundError, match="rankzero ls"):
        index_run(tmp_path)
    run_dir = write(b"nonsense\n")
    with pytest.raises(RunNotFoundError, match="no readable event"):
        index_run(run_dir)
    write(START)
    assert index_run(run_dir).summary.info.name == "amber-otter-12"


# Many runs


def test_summaries_of_a_directory_leave_out_what_cannot_be_read(write, tmp_path):
    run_dir = write(START, row(3, a=1), row(2, a=1))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / JOURNAL).write_bytes(b"nonsense\n")
    (summary,) = summarize_runs(tmp_path)
    assert (summary.dir, summary.step, summary.status) == (run_dir, 3, "crashed")


def test_a_quick_summary_of_a_large_journal_reads_its_beginning_and_end(write, monkeypatch, bytes_read):
    monkeypatch.setattr(rankzero.reader.index.run_index, "_MOST_UNREAD", 10_000)
    monkeypatch.setattr(rankzero.reader.index.run_index, "_GLIMPSE", 1_000)
    run_dir = write(START, Params(1.0, {"lr": 1}), *rows(range(2000)), row(1990, loss=1))
    quick = summarize(run_dir, quick=True)
    assert bytes_read() < 3_000
    assert (quick.step, quick.params, quick.info.name, quick.updated) == (1999, {"lr": 1}, "amber-otter-12", 1.0)
    assert not (run_dir / SUMMARY).exists()
    summarize(run_dir)
    write(*rows(range(2000)), Finish(5.0, "success"))
    before = bytes_read()
    again = summarize(run_dir, quick=True)
    assert (again.step, again.status, again.params) == (1999, "success", {"lr": 1})
    assert bytes_read() - before < 3_000


def test_curves_are_the_same_without_numpy(write, monkeypatch):
    run_dir = write(START, *rows([step * 37 % 1001 / 3 for step in range(5000)]))
    expected = points(index_run(run_dir).curves["loss"])
    (run_dir / SUMMARY).unlink()
    monkeypatch.setattr("rankzero.reader.series._numpy", lambda: None)
    curve = index_run(run_dir).curves["loss"]
    assert (points(curve), type(curve.value).__name__) == (expected, "array")

"""Reading a run: all logged data, exactly, also from damaged files."""

import builtins
import math
import os
import subprocess
import sys
from array import array

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from reader.conftest import INFO, START

import rankzero.media.encoders
from rankzero.errors import PluginNotInstalledError, RunError, RunNotFoundError
from rankzero.events.structs import (
    Alert,
    Artifact,
    Audio,
    Checkpoint,
    Console,
    DefineMetric,
    Figure,
    Finish,
    Graph,
    Histogram,
    Image,
    Lost,
    Metrics,
    Params,
    Rewind,
    Start,
    Table,
    Tags,
    Text,
    encode,
)
from rankzero.media.store import MediaFile, MediaStore
from rankzero.reader.index.run_index import index_run
from rankzero.reader.run_data import JournalReader, read_run
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import Position, save_position
from rankzero.rundir.writer_lock import WriterLock
from rankzero.values import to_jsonable


@pytest.fixture
def without_numpy(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def row(step, time=1.0, **values):
    return Metrics(time, step, values)


def test_alerts_and_console(write):
    alert, lines = Alert(2.0, "loss", "it is NaN", "ERROR"), Console(3.0, "one\ntwo", "stderr")
    run = read_run(write(START, alert, row(0, loss=1), lines))
    assert (run.alerts, run.console) == ([alert], [lines])


# Rewinding


def test_later_steps_are_left_out_after_a_rewind(write):
    before = [row(3, loss=3), row(4, loss=4), row(4, eval=1, late=1), row(3, eval=2), row(None, note=3)]
    run_dir = write(START, *before, Rewind(1.0, 3), row(4, loss=40))
    run, whole = read_run(run_dir), read_run(run_dir, keep_rewound=True)
    values = {name: series.value.tolist() for name, series in run.metrics.items()}
    assert values == {"loss": [3, 40], "eval": [2], "note": [3]}
    assert whole.metrics["loss"].value.tolist() == [3, 4, 40]
    assert (run.lines, run.damaged) == (whole.lines, 0)


def test_starts_and_rewinds_say_where_the_run_was_resumed(write):
    run = read_run(write(START, row(1, a=1), again := Start(6.0, INFO, resumed=True), back := Rewind(6.5, 0)))
    assert ([each.resumed for each in run.starts], run.starts[1], run.rewinds) == ([False, True], again, [back])


@given(st.lists(st.integers(0, 9) | st.integers(-1, 9).map(lambda step: Rewind(1.0, step)), max_size=30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_rewind_concerns_the_rows_before_it(monkeypatch, tmp_path_factory, history):
    monkeypatch.setattr("rankzero.journal.tail._LINES_AT_ONCE", 200)
    journal = tmp_path_factory.mktemp("run") / "journal.jsonl"
    expected = []
    for number, event in enumerate(history):
        if isinstance(event, Rewind):
            expected = [(step, value) for step, value in expected if step <= event.step]
        else:
            expected.append((event, number))
    rows = [each if isinstance(each, Rewind) else row(each, a=number) for number, each in enumerate(history)]
    journal.write_bytes(b"".join(encode(each) for each in [START, *rows]))
    series = read_run(journal).metrics.get("a")
    found = [] if series is None else list(zip(series.step.tolist(), series.value.tolist(), strict=True))
    assert found == expected


def test_what_else_was_logged_at_later_steps_is_left_out_and_files_stay(write, tmp_path):
    store = MediaStore(tmp_path / "run")
    file = store.put_bytes((b"a picture", ".png"))
    table = store.table(["a"], [[1]])
    histogram = rankzero.media.encoders.Histogram([1], [0.0, 1.0])

    def logged(step):
        return [
            Image(1.0, "image", [file], step),
            Table(1.0, "table", table, step),
            Text(1.0, "text", ["text"], [["a"]], step),
            Histogram(1.0, "histogram", histogram, step),
            Checkpoint(1.0, f"checkpoints/{step}", "", None, step),
            Artifact(1.0, file.path, "file"),
            Params(1.0, {f"at {step}": 1}),
            Console(1.0, f"at {step}"),
        ]

    run_dir = write(START, *logged(3), *logged(4), Text(1.0, "late", ["text"], [["a"]], 4), Rewind(1.0, 3), *logged(4))
    for run, steps in ((read_run(run_dir), [3, 4]), (read_run(run_dir, keep_rewound=True), [3, 4, 4])):
        kinds = [run.media["image"], run.tables["table"], run.texts["text"], run.histograms["histogram"]]
        assert all([each.step for each in kind] == steps for kind in kinds)
        assert ("late" in run.texts) == (len(steps) == 3)
        assert [each.step for each in run.checkpoints] == [3, 4, 4]
        assert (len(run.artifacts), len(run.console), list(run.params)) == (3, 3, ["at 3", "at 4"])


# Metrics


def test_a_metric_is_three_arrays(write):
    run = read_run(write(START, row(0, 1.5, loss=0.5), row(1, 2.5, loss=0.25)))
    loss = run.metrics["loss"]
    assert (loss.step.dtype, loss.time.dtype, loss.value.dtype) == (np.int64, np.float64, np.float64)
    assert (loss.step.tolist(), loss.time.tolist(), loss.value.tolist()) == ([0, 1], [1.5, 2.5], [0.5, 0.25])
    assert len(loss) == 2


def test_times_may_be_zero(write):
    run = read_run(write(START, row(0, 0.0, loss=0.5)))
    assert (run.updated, run.metrics["loss"].time.tolist()) == (0.0, [0.0])


def test_ints_stay_ints_and_floats_are_exact(write):
    run = read_run(
        write(START, row(0, count=2**53 + 1, mixed=1, loss=0.1 + 0.2), row(1, count=3, mixed=0.5, loss=5e-324))
    )
    assert run.metrics["count"].value.tolist() == [2**53 + 1, 3]
    assert run.metrics["count"].value.dtype == np.int64
    assert run.metrics["mixed"].value.tolist() == [1.0, 0.5]
    assert run.metrics["loss"].value.tolist() == [0.1 + 0.2, 5e-324]


def test_ints_that_do_not_fit_become_floats(write):
    run = read_run(write(START, row(0, a=2**63 - 1, b=2**63, c=1), row(1, a=-(2**63), b=1, c=10**400)))
    assert run.metrics["a"].value.tolist() == [2**63 - 1, -(2**63)]
    assert run.metrics["b"].value.tolist() == [2.0**63, 1.0]
    assert run.metrics["c"].value.tolist() == [1.0, math.inf]


def test_not_a_number_and_infinities(write):
    run = read_run(write(START, row(0, a="NaN", b=True), row(1, a="Infinity", b=False), row(2, a="-Infinity", b=3)))
    np.testing.assert_array_equal(run.metrics["a"].value, [math.nan, math.inf, -math.inf])
    assert run.metrics["b"].value.tolist() == [1, 0, 3]


def test_a_metric_logged_beside_different_metrics_keeps_its_order(write):
    run = read_run(
        write(
            START,
            row(0, 1.0, loss=4, lr=1),
            row(1, 2.0, loss=3),
            row(0, 3.0, loss=2, lr=9),
            row(1, 4.0, lr=8, loss=1.5),
        )
    )
    loss, lr = run.metrics["loss"], run.metrics["lr"]
    assert loss.value.tolist() == [4, 3, 2, 1.5]
    assert (loss.step.tolist(), loss.time.tolist()) == ([0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0])
    assert (lr.value.tolist(), lr.value.dtype) == ([1, 9, 8], np.int64)
    assert list(run.metrics) == ["loss", "lr"]


def test_a_missing_step_is_nan(write):
    run = read_run(write(START, row(None, loss=1.0), row(7, loss=2.0)))
    np.testing.assert_array_equal(run.metrics["loss"].step, [math.nan, 7])


def test_arrays_are_read_only_because_metrics_share_them(write):
    run = read_run(write(START, row(0, a=1.0, b=2.0)))
    with pytest.raises(ValueError, match="read-only"):
        run.metrics["a"].step[0] = 5


def test_a_journal_of_many_chunks(write, monkeypatch):
    monkeypatch.setattr("rankzero.journal.tail._LINES_AT_ONCE", 1000)
    events = [row(step, step + 0.5, **{f"m{step % 3}": step, "all": step / 7}) for step in range(500)]
    run = read_run(write(START, *events, row(500, **{"x" * 5000: 1})))
    assert run.metrics["all"].value.tolist() == [step / 7 for step in range(500)]
    assert run.metrics["m1"].step.tolist() == list(range(1, 500, 3))
    assert run.metrics["x" * 5000].value.tolist() == [1]


def test_without_numpy_metrics_are_arrays_of_the_standard_library(write, without_numpy):
    events = [row(0, loss=4, lr=1), row(1, loss=3), row(None, loss="NaN", lr=9)]
    run = read_run(write(START, *events))
    loss, lr = run.metrics["loss"], run.metrics["lr"]
    assert isinstance(loss.value, array)
    assert loss.value.tolist()[:2] == [4.0, 3.0]
    assert math.isnan(loss.value[2])
    assert math.isnan(loss.step[2])
    assert (lr.value, lr.value.typecode) == (array("q", [1, 9]), "q")


# Whatever happened to the file


def test_an_incomplete_last_line_is_ignored(write):
    run = read_run(write(START, row(0, loss=1.0), encode(row(1, loss=2.0))[:-1]))
    assert run.metrics["loss"].value.tolist() == [1.0]
    assert (run.lines, run.damaged) == (2, 0)


def test_damaged_lines_are_counted_and_skipped(write):
    damaged = [
        b"\x00\xff garbage\n",
        b'{"type":"metrics","time":1,\n',
        b'{"type":"unheard-of","time":1}\n',
        b"[" * 9999 + b"\n",
    ]
    run = read_run(write(START, row(0, loss=1.0), *damaged, b"\n", row(1, loss=2.0), Finish(5.0, "success")))
    assert run.metrics["loss"].value.tolist() == [1.0, 2.0]
    assert (run.damaged, run.lines, run.status) == (4, 9, "success")


def test_a_damaged_start_leaves_the_rest_readable(write):
    run = read_run(write(b'{"type":"sta\n', row(0, loss=1.0)))
    assert (run.info.id, run.info.project, len(run.metrics["loss"])) == ("run", run.dir.parent.name, 1)


def test_lost_log_calls_are_reported(write):
    run = read_run(write(START, Lost(5.0, 12, 4.0, "No space left on device")))
    assert [(loss.count, loss.reason) for loss in run.losses] == [(12, "No space left on device")]


@pytest.mark.parametrize("content", [None, b"", b"nonsense\n", b'{"type":"metrics"'])
def test_a_missing_run_raises_run_not_found(tmp_path, content):
    if content is not None:
        (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(RunNotFoundError, match=str(tmp_path)):
        read_run(tmp_path)


# The run


def test_info_of_the_run(write):
    run = read_run(write(START, Tags(101.0, ["second", "first"]), row(0, 105.0, loss=1.0)))
    assert (run.info.id, run.info.name, run.info.notes, run.started) == ("a1", "amber-otter-12", "a note", 100.0)
    assert run.tags == ["first", "second"]
    assert (run.info.dir, run.updated, run.finished) == (str(run.dir), 105.0, None)  # where it is, not where it was
    assert "1 points" in repr(run)


def test_a_run_is_read_by_directory_string_or_journal_path(write):
    run_dir = write(START)
    assert read_run(str(run_dir)).dir == read_run(run_dir / "journal.jsonl").dir == run_dir


def test_params_of_all_calls_are_merged(write):
    first, second = {"lr": 1, "model": {"depth": 2, "width": 3}}, {"lr": 2, "model": {"depth": 9}}
    run = read_run(write(START, Params(1.0, first), Params(2.0, second)))
    assert run.params == {"lr": 2, "model": {"depth": 9, "width": 3}}


@pytest.mark.parametrize(
    ("events", "status", "finished"),
    [
        ([Finish(5.0, "failed")], "failed", 5.0),
        ([Finish(5.0, "failed"), Start(6.0, INFO, resumed=True)], "crashed", None),
        ([Finish(5.0, "failed"), Start(6.0, INFO, resumed=True), Finish(7.0, "success")], "success", 7.0),
        ([], "crashed", None),
    ],
)
def test_status(write, events, status, finished):
    run = read_run(write(START, *events))
    assert (run.status, run.finished) == (status, finished)


def test_a_run_whose_writer_lives_is_running(write):
    run_dir = write(START)
    lock = WriterLock(run_dir)
    assert read_run(run_dir).status == "running"
    lock.release()
    assert read_run(run_dir).status == "crashed"


def test_a_run_that_ends_while_it_is_read_has_not_crashed(write):
    run_dir = write(START, row(0, loss=1.0))
    index, reader = index_run(run_dir), JournalReader(run_dir / JOURNAL)
    list(reader.read())
    assert (index.summary.status, reader.finish().status) == ("crashed", "crashed")
    write(Finish(5.0, "success"))
    assert (index.summary.status, index.data().status, reader.finish().status) == ("success",) * 3


def test_a_run_from_another_machine_is_unknown(write):
    run_dir = write(START)
    (run_dir / "writer.lock").write_text('{"host":"far","boot":"other","pid":1}')
    assert read_run(run_dir).status == "unknown"


def test_a_journal_being_written_can_be_read_again_and_again(write):
    run_dir = write(START, row(0, loss=1.0))
    assert len(read_run(run_dir).metrics["loss"]) == 1
    write(row(1, loss=2.0))
    assert len(read_run(run_dir).metrics["loss"]) == 2


def test_deliveries(write):
    run_dir = write(START, row(0, loss=1.0))
    save_position(run_dir, "other", Position(offset=10, line=1, problem="down"))
    deliveries = read_run(run_dir).deliveries
    assert {key: (each.line, each.problem) for key, each in deliveries.items()} == {
        "csv": (0, None),
        "other": (1, "down"),
    }


# Everything else that was logged


def test_media_have_absolute_paths_and_captions(write, tmp_path):
    store = MediaStore(tmp_path / "run")
    image = store.put("image", np.zeros((2, 2), np.uint8), "a zero")
    sound = store.put("audio", np.zeros(10), sample_rate=8000)
    run = read_run(
        write(START, Image(1.0, "x", [image, image], 3), Audio(2.0, "x", [sound], 4), Figure(3.0, "f", image, 5))
    )
    kinds = [(each.kind, each.step, each.time, each.caption) for each in run.media["x"]]
    assert kinds == [("image", 3, 1.0, "a zero"), ("image", 3, 1.0, "a zero"), ("audio", 4, 2.0, None)]
    assert np.asarray(run.media["x"][0].file).shape == (2, 2)
    assert run.media["x"][2].path.read_bytes()[:4] == b"RIFF"
    assert run.media["f"][0].kind == "figure"


def test_tables_texts_histograms_and_graphs(write, tmp_path):
    store = MediaStore(tmp_path / "run")
    table = store.table(["a", "b"], [[1, 2.5], ["x", None]])
    values = rankzero.media.encoders.Histogram([1, 2], [0.0, 0.5, 1.0])
    graph = store.put_bytes((b"{}", ".json"))
    events = [
        Table(1.0, "t", table, 1),
        Text(2.0, "s", ["c"], [["hello"]], 2),
        Histogram(3.0, "h", values, 3),
        Graph(4.0, graph),
    ]
    run = read_run(write(START, *events))
    assert run.tables["t"][0].read() == (["a", "b"], [[1, 2.5], ["x", None]])
    assert (run.texts["s"][0].columns, run.texts["s"][0].data) == (["c"], [["hello"]])
    assert (run.histograms["h"][0].step, run.histograms["h"][0].values) == (3, values)
    assert run.graphs == [MediaFile(str(run.dir / graph.path))]


def test_artifacts_and_definitions(write):
    run = read_run(
        write(START, Artifact(1.0, "media/x.bin", "weights", "model"), DefineMetric(2.0, "loss", summary="min"))
    )
    assert [(each.path, each.name, each.kind) for each in run.artifacts] == [
        (str(run.dir / "media/x.bin"), "weights", "model")
    ]
    assert run.definitions["loss"].summary == "min"


def test_an_alias_points_to_the_newest_checkpoint_that_got_it(write):
    run = read_run(
        write(
            START,
            Checkpoint(1.0, "checkpoints/1/a.pt", score=0.5, step=1, aliases=["latest", "best"]),
            Checkpoint(2.0, "checkpoints/2/b.pt", score=0.7, step=2, aliases=["latest", "best"]),
            Checkpoint(3.0, "checkpoints/3/c.pt", score=0.6, step=3, aliases=["latest"]),
        )
    )
    assert [each.aliases for each in run.checkpoints] == [[], ["best"], ["latest"]]
    for path in ("checkpoints/2/b.pt", "checkpoints/3/c.pt"):
        (run.dir / path).parent.mkdir(parents=True)
        (run.dir / path).touch()
    assert (run.checkpoint("best").step, run.checkpoint("latest").score) == (2, 0.6)
    assert run.checkpoint("best").path == str(run.dir / "checkpoints/2/b.pt")
    (run.dir / "checkpoints/2/b.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"'best' was deleted, .*clean --checkpoints.*b\.pt"):
        run.checkpoint("best")
    with pytest.raises(RunError, match=r"'worst'.*best, latest"):
        run.checkpoint("worst")


def test_a_checkpoint_whose_snapshot_was_deleted_is_found_where_it_was_saved(write, tmp_path):
    source = tmp_path / "a.pt"
    source.write_bytes(b"")
    saved = source.stat().st_mtime
    run_dir = write(
        replace(START, run=replace(INFO, dir=str(tmp_path / "run"))).sealed(),
        Checkpoint(saved, "checkpoints/1/a.pt", str(source)),
        Checkpoint(saved, "checkpoints/2/b.pt", "/gone"),
    )
    kept = [str(run_dir / "checkpoints/1/a.pt"), str(run_dir / "checkpoints/2/b.pt")]
    assert [each.path for each in read_run(run_dir).checkpoints] == [str(source), kept[1]]
    foreign = tmp_path / "foreign"  # whoever put it there may have added lines that name any file
    foreign.mkdir()
    (foreign / "journal.jsonl").write_bytes((run_dir / "journal.jsonl").read_bytes())
    assert str(source) not in [each.path for each in read_run(foreign).checkpoints]
    os.utime(source, (saved + 1, saved + 1))  # overwritten
    assert [each.path for each in read_run(run_dir).checkpoints] == kept


# Tables of other libraries


@pytest.fixture
def run(write):
    return read_run(write(START, row(0, 1.5, loss=0.5, n=1), row(None, 2.5, loss="NaN"), row(2, 3.5, loss=0.25, n=3)))


def test_to_pandas(run):
    frame = run.to_pandas()
    assert list(frame.columns) == ["metric", "step", "time", "value"]
    assert frame["metric"].tolist() == ["loss"] * 3 + ["n"] * 2
    assert frame["step"].isna().tolist() == [False, True, False, False, False]
    assert frame["step"].dropna().tolist() == [0, 2, 0, 2]
    assert frame["time"].tolist() == [1.5, 2.5, 3.5, 1.5, 3.5]
    np.testing.assert_array_equal(frame["value"], [0.5, math.nan, 0.25, 1, 3])


def test_to_pandas_wide(write):
    run = read_run(
        write(START, row(5, loss=0.5), row(None, loss=9.0, cpu=1), row(2, loss=1.0), row(5, acc=1), row(5, loss=0.25))
    )
    frame = run.to_pandas(wide=True)
    assert [*frame] == ["loss", "acc"]
    assert frame.index.name == "step"
    assert frame.index.tolist() == [2, 5]
    np.testing.assert_array_equal(frame["loss"], [1.0, 0.25])
    np.testing.assert_array_equal(frame["acc"], [math.nan, 1.0])


def test_to_arrow(run):
    table = run.to_arrow()
    assert table.column_names == ["metric", "step", "time", "value"]
    assert table["metric"].to_pylist() == ["loss"] * 3 + ["n"] * 2
    assert table["step"].to_pylist() == [0, None, 2, 0, 2]
    np.testing.assert_array_equal(table["value"].to_pylist(), [0.5, math.nan, 0.25, 1.0, 3.0])


def test_a_table_of_only_ints_has_ints(write):
    run = read_run(write(START, row(0, n=2**53 + 1)))
    assert run.to_pandas()["value"].tolist() == [2**53 + 1]
    assert run.to_arrow()["value"].to_pylist() == [2**53 + 1]


def test_tables_without_metrics(write):
    run = read_run(write(START))
    assert (len(run.to_pandas()), len(run.to_pandas(wide=True)), len(run.to_arrow())) == (0, 0, 0)


def test_a_missing_library_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PluginNotInstalledError, match=r"pandas.*pip install 'rankzero\[data\]'"):
        run.to_pandas()


def test_reading_imports_nothing_heavy(write):
    run_dir = write(START, Params(1.0, {"a": 1}), Finish(2.0, "success"))
    code = (
        "import sys; from rankzero.reader.run_data import read_run; loaded = set(sys.modules); read_run(sys.argv[1]);"
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'torch', 'rich', 'typer'} & loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run_dir], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "[]\n"


def test_hyperparameters_that_are_not_finite_come_back_as_numbers(write):
    params = {"norm": math.inf, "deep": [{"x": math.nan}, -math.inf], "s": "nan"}
    run = read_run(write(START, Params(1.0, to_jsonable(params))))
    assert run.params["norm"] == math.inf
    assert math.isnan(run.params["deep"][0]["x"])
    assert (run.params["deep"][1], run.params["s"]) == (-math.inf, "nan")

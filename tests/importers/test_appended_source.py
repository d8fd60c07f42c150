"""Import a source again after it has grown: partial texts and console lines, and the header of the run."""

import pytest
from importers.test_writing import ID, Diary, lines, write

import rankzero
from rankzero.events.structs import Console, Finish, Image, Metrics, Params, Start, Text, decode
from rankzero.importers.base import SkipRun
from rankzero.importers.writing import Outcome, import_run


def table(*rows, key="notes"):
    """Return texts as an importer collects them, with the time and step of the first."""
    return Text(1.0, key, ["value"], [[row] for row in rows], 1)


def point(step):
    return Metrics(float(step), step, {"loss": step / 3})


def logged(tmp_path):
    run = rankzero.read_run(tmp_path / "runs" / "digits" / ID)
    return [row[0] for text in run.texts.get("notes", ()) for row in text.data], [each.text for each in run.console]


def test_a_partial_table_gets_the_remaining_rows(tmp_path):
    parts = [
        [point(1), table("a", "b")],
        [point(1), point(2), table("a", "b", "c")],
        [point(1), point(2), point(3), table("a", "b", "c", "d", "e"), point(4), table("f")],
    ]
    for events in parts:
        assert write(Diary(*events), tmp_path).outcome is not Outcome.DIFFERENT
        assert write(Diary(*events), tmp_path).outcome is Outcome.UNCHANGED
    assert logged(tmp_path)[0] == ["a", "b", "c", "d", "e", "f"]
    series = rankzero.read_run(tmp_path / "runs" / "digits" / ID).metrics["loss"]
    assert series.step.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("before", "after", "printed"),
    [
        ([Console(1.0, "x")], [Console(2.0, "x")], ["x"]),
        ([Console(1.0, "x")], [point(1), Console(2.0, "xy\nz")], ["x", "y\nz"]),
        ([Console(1.0, "x")], [Console(2.0, "x\nz")], ["x", "z"]),
        ([Console(1.0, "10%")], [Console(2.0, "20%")], ["10%", "20%"]),
        ([Console(1.0, "a"), Console(1.0, "b", "stderr")], [Console(2.0, "b!", "stderr"), Console(3.0, "a")], None),
    ],
)
def test_a_partial_line_gets_its_rest(tmp_path, before, after, printed):
    write(Diary(*before), tmp_path)
    assert write(Diary(*after), tmp_path).outcome is not Outcome.DIFFERENT
    assert write(Diary(*after), tmp_path).outcome is Outcome.UNCHANGED
    assert logged(tmp_path)[1] == (printed or ["a", "b", "!"])


def test_a_line_may_be_partial_three_times(tmp_path):
    for text in ("x", "xy", "xyz"):
        write(Diary(Console(1.0, text)), tmp_path)
    assert logged(tmp_path)[1] == ["x", "y", "z"]
    assert write(Diary(point(1), Console(4.0, "xyz")), tmp_path).outcome is Outcome.APPENDED
    assert logged(tmp_path)[1] == ["x", "y", "z"]


@pytest.mark.parametrize(
    "after",
    [
        [point(1), table("other", "b", "c")],
        [point(1), table("a")],
        [point(1), point(2)],
        [point(1), table("a", "b", key="elsewhere")],
    ],
    ids=["row", "fewer", "gone", "key"],
)
def test_another_table_is_refused_and_nothing_is_appended(tmp_path, after):
    write(Diary(point(1), table("a", "b")), tmp_path)
    before = lines(tmp_path)
    assert write(Diary(*after), tmp_path).outcome is Outcome.DIFFERENT
    assert lines(tmp_path) == before
    assert not list((tmp_path / "runs").rglob("journal.part"))


def test_console_lines_in_the_middle_must_be_equal(tmp_path):
    write(Diary(Console(1.0, "one"), point(1), Console(2.0, "two")), tmp_path)
    assert write(Diary(Console(1.0, "ONE"), point(1), Console(2.0, "two")), tmp_path).outcome is Outcome.DIFFERENT
    two = Diary(Console(1.0, "one"), point(1), Console(2.0, "two\nthree"))
    assert write(two, tmp_path).outcome is Outcome.APPENDED


def test_only_the_last_lines_may_be_partial(tmp_path):
    write(Diary(table("a"), point(1)), tmp_path)
    assert write(Diary(point(1), table("a")), tmp_path).outcome is Outcome.DIFFERENT


def test_a_later_name_does_not_make_another_run(tmp_path):
    write(Diary(point(1)), tmp_path)
    done = write(Diary(point(1), point(2), name="better", notes="why"), tmp_path)
    assert (done.outcome, done.info.name) == (Outcome.APPENDED, "first try")
    assert rankzero.read_run(done.info.dir).info.name == "first try"


def test_true_and_one_are_different(tmp_path):
    write(Diary(Params(1.0, {"k": 1})), tmp_path)
    assert write(Diary(Params(1.0, {"k": True, "n": 2})), tmp_path).outcome is Outcome.DIFFERENT
    assert write(Diary(Params(1.0, {"k": 1, "n": 2})), tmp_path).outcome is Outcome.APPENDED


def test_a_refused_import_leaves_no_files(tmp_path):
    def picture(data):
        return lambda files, report: Image(2.0, "sample", [files.put_bytes((data, ".png"))], 2)

    def media():
        return sorted(path for path in (tmp_path / "runs").rglob("media/**/*") if path.is_file())

    write(Diary(point(1), picture(b"one")), tmp_path)
    before = media()
    assert write(Diary(point(1), picture(b"two"), picture(b"one")), tmp_path).outcome is Outcome.DIFFERENT
    assert media() == before
    assert write(Diary(point(1), picture(b"one"), picture(b"two")), tmp_path).outcome is Outcome.APPENDED
    assert len(media()) == 2


def test_a_run_is_not_imported_into_two_projects(tmp_path):
    write(Diary(point(1)), tmp_path)
    done = import_run(Diary(point(1)), tmp_path / "runs", "other")
    assert (done.outcome, done.info.dir) == (Outcome.OTHER_PROJECT, str(tmp_path / "runs" / "digits" / ID))
    assert not (tmp_path / "runs" / "other").exists()
    assert import_run(Diary(point(1)), tmp_path / "more", "other").outcome is Outcome.NEW


@pytest.mark.parametrize(("events", "began"), [([Metrics(1e9, 1, {"a": 1.0})], 1e9), ([], 1.0), ([point(0)], 1.0)])
def test_a_run_without_times(tmp_path, events, began):
    write(Diary(*events, started=0.0), tmp_path)
    start, *_, finish = map(decode, lines(tmp_path))
    assert isinstance(start, Start)
    assert isinstance(finish, Finish)
    assert (start.time, finish.time) == (began, began)
    assert rankzero.read_run(tmp_path / "runs" / "digits" / ID).started == began
    assert write(Diary(*events, point(2e9), started=0.0), tmp_path).outcome is Outcome.APPENDED


def test_a_run_that_is_skipped_leaves_nothing(tmp_path):
    class Skipped(Diary):
        def header(self):
            raise SkipRun("it was synced")

    with pytest.raises(SkipRun):
        write(Skipped(), tmp_path)
    assert not (tmp_path / "runs").exists()

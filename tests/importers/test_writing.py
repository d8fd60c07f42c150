"""Import a found run: the journal, repeated imports, sources that have grown, and killed imports."""

import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import A_WHILE

import rankzero
from rankzero import errors
from rankzero.capture.environment import Environment, Git, read_environment
from rankzero.events.structs import Artifact, Console, Finish, Image, Metrics, Params, Start, Tags, Text, decode
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.importers.writing import Outcome, import_run, project_name, run_id_of
from rankzero.rundir.writer_lock import WriterLock

ID = "0123456789abcdef0123456789abcdef"


class Diary(FoundRun):
    """A run whose events are given."""

    identity = ID
    project = "digits"
    source = "diary.txt"

    def __init__(self, *events, **header):
        self.logged = events
        self.about = Header(**{"name": "first try", "started": 5.0, **header})

    def header(self):
        return self.about

    def events(self, files, report):
        for event in self.logged:
            yield event(files, report) if callable(event) else event


def write(found, tmp_path):
    return import_run(found, tmp_path / "runs", "digits")


def lines(tmp_path):
    return (tmp_path / "runs" / "digits" / ID / "journal.jsonl").read_bytes().splitlines(keepends=True)


def points(run):
    return {
        name: [(step, time, value) for step, time, value in zip(each.step, each.time, each.value, strict=True)]
        for name, each in run.metrics.items()
    }


def picture(files, report):
    return Image(8.0, "sample", [files.put_bytes((b"\x89PNG\r\n\x1a\n...", ".png"), caption="a dot")], 2)


EVENTS = (
    Params(6.0, {"optim": {"lr": 0.1}}),
    Metrics(7.0, 1, {"loss": math.nan, "acc": 0.1 + 0.2}),
    Text(7.5, "note", ["value"], [["a null", None]], 1),
    picture,
    Tags(8.5, ["a", "b"]),
    Console(9.0, "one\ntwo"),
    Metrics(7.0, 2, {"loss": -math.inf, "n": 2**70}),
)


def test_a_run_is_written(tmp_path):
    done = write(Diary(*EVENTS, notes="why", tags=("x",), status="failed"), tmp_path)
    assert (done.outcome, done.values, done.files) == (Outcome.NEW, 1 + 2 + 1 + 2 + 2 + 2, 1)
    run = rankzero.read_run(done.info.dir)
    assert (run.info.id, run.info.name, run.info.project, run.info.notes) == (ID, "first try", "digits", "why")
    assert (run.status, run.started, run.finished, run.params) == ("failed", 5.0, 9.0, {"optim": {"lr": 0.1}})
    assert run.tags == ["x", "a", "b"]
    assert math.isnan(run.metrics["loss"].value[0])
    assert list(run.metrics["loss"].value[1:]) == [-math.inf]
    assert list(run.metrics["acc"].value) == [0.1 + 0.2]
    assert run.media["sample"][0].path.read_bytes() == b"\x89PNG\r\n\x1a\n..."
    assert run.media["sample"][0].caption == "a dot"
    assert run.texts["note"][0].data == [["a null", None]]
    assert not (run.dir / "journal.part").exists()


class Described(Diary):
    """A run whose machine is known."""

    def environment(self, files):
        return Environment(host="node7", git=Git("/repo", "abc", diff=files.put_bytes((b"+1", ".patch")).path))


def test_the_environment_and_the_group_are_written(tmp_path):
    done = import_run(Described(*EVENTS, group="sweep", parent="ab-12cd34"), tmp_path / "runs", "digits")
    found = read_environment(done.info.dir)
    assert (found.host, found.git.commit, done.info.group, done.info.parent) == ("node7", "abc", "sweep", "ab12cd34")
    assert Path(done.info.dir, found.git.diff).read_bytes() == b"+1"
    dry = import_run(Described(*EVENTS), tmp_path / "dry", "digits", dry_run=True)
    assert not Path(dry.info.dir).exists()


def test_the_same_source_gives_the_same_bytes(tmp_path):
    write(Diary(*EVENTS), tmp_path)
    first = lines(tmp_path)
    again = write(Diary(*EVENTS), tmp_path)
    assert (again.outcome, again.values, again.files) == (Outcome.UNCHANGED, 0, 0)
    assert lines(tmp_path) == first


@pytest.mark.filterwarnings("ignore:CSVLogger has no tags")
def test_new_events_are_appended_and_delivered(tmp_path):
    write(Diary(*EVENTS[:3]), tmp_path)
    before = lines(tmp_path)
    run_dir = tmp_path / "runs" / "digits" / ID
    rankzero.deliver(run_dir, rankzero.CSVLogger(tmp_path / "csv"))
    done = write(Diary(*EVENTS, status="aborted"), tmp_path)
    assert (done.outcome, done.files) == (Outcome.APPENDED, 1)
    assert lines(tmp_path)[: len(before)] == before
    added = [decode(line) for line in lines(tmp_path)[len(before) :]]
    assert (type(added[0]), added[0].resumed, added[0].time) == (Start, True, 8.0)
    assert (type(added[-1]), added[-1].time, added[-1].status) == (Finish, 9.0, "aborted")
    assert [type(each) for each in added[1:-1]] == [Image, Tags, Console, Metrics]
    assert write(Diary(*EVENTS, status="aborted"), tmp_path).outcome is Outcome.UNCHANGED
    rankzero.deliver(run_dir, rankzero.CSVLogger(tmp_path / "csv"))
    written = next((tmp_path / "csv").rglob("metrics.csv")).read_text()
    assert written.count("-inf") == 1
    assert written.count(str(0.1 + 0.2)) == 1


def test_new_values_of_an_event_are_appended_alone(tmp_path):
    write(Diary(Params(6.0, {"a": {"b": 1}}), Metrics(7.0, 1, {"loss": math.nan})), tmp_path)
    grown = Diary(Params(6.0, {"a": {"b": 1}}), Metrics(7.0, 1, {"loss": math.nan, "acc": math.inf, "n": 3}))
    assert write(grown, tmp_path).outcome is Outcome.APPENDED
    assert decode(lines(tmp_path)[-2]) == Metrics(7.0, 1, {"acc": "Infinity", "n": 3})
    assert write(grown, tmp_path).outcome is Outcome.UNCHANGED
    params = Diary(Params(6.0, {"a": {"b": 1, "c": {"d": 2}}, "e": 3}), *grown.logged[1:])
    assert write(params, tmp_path).outcome is Outcome.DIFFERENT  # these would have come before the metrics


def test_a_status_that_changed_is_written(tmp_path):
    write(Diary(*EVENTS), tmp_path)
    assert write(Diary(*EVENTS, status="failed"), tmp_path).outcome is Outcome.APPENDED
    assert rankzero.read_run(tmp_path / "runs" / "digits" / ID).status == "failed"
    assert write(Diary(*EVENTS, status="failed"), tmp_path).outcome is Outcome.UNCHANGED


@pytest.mark.parametrize(
    "other",
    [
        Diary(*EVENTS[:2]),
        Diary(EVENTS[0], Metrics(7.0, 1, {"loss": 0.0, "acc": 0.3}), *EVENTS[2:]),
        Diary(*reversed(EVENTS)),
        Diary(),
    ],
    ids=["less", "value", "order", "nothing"],
)
def test_a_different_run_is_not_changed(tmp_path, other):
    write(Diary(*EVENTS), tmp_path)
    before = lines(tmp_path)
    assert write(other, tmp_path).outcome is Outcome.DIFFERENT
    assert lines(tmp_path) == before


def test_moved_runs_are_recognised(tmp_path):
    write(Diary(*EVENTS), tmp_path)
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert import_run(Diary(*EVENTS), tmp_path / "moved", "digits").outcome is Outcome.UNCHANGED


@given(st.data())
def test_importing_in_parts_equals_importing_at_once(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("parts")
    steps = data.draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.floats()), max_size=12))
    events = [Metrics(float(step), step, {name: value}) for step, name, value in steps]
    for cut in sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=3))):
        write(Diary(*events[:cut]), tmp_path)
    write(Diary(*events), tmp_path)
    write(Diary(*events), tmp_path / "at once")
    logged = [line for line in lines(tmp_path) if not line.startswith((b'{"type":"start"', b'{"type":"finish"'))]
    assert logged == lines(tmp_path / "at once")[1:-1]


def test_an_append_that_was_killed_anywhere_is_completed(tmp_path):
    write(Diary(*EVENTS[:2]), tmp_path)
    length = len(b"".join(lines(tmp_path)))
    write(Diary(*EVENTS), tmp_path)
    whole = b"".join(lines(tmp_path))
    wanted = points(rankzero.read_run(tmp_path / "runs" / "digits" / ID))
    journal = tmp_path / "runs" / "digits" / ID / "journal.jsonl"
    for end in range(length, len(whole), 7):
        journal.write_bytes(whole[:end])
        write(Diary(*EVENTS), tmp_path)
        run = rankzero.read_run(journal)
        assert repr(points(run)) == repr(wanted)
        assert (run.status, run.damaged, len(run.texts["note"]), len(run.media["sample"])) == ("success", 0, 1, 1)
        assert write(Diary(*EVENTS), tmp_path).outcome is Outcome.UNCHANGED


SLOW = """
import sys, time
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/.."]
from pathlib import Path
from rankzero.events.structs import Metrics
from rankzero.importers.writing import import_run
from test_writing import Diary

class Slow(Diary):
    def events(self, files, report):
        for step in range(1000):
            yield Metrics(1.0, step, {"loss": 0.5})
        print("half", flush=True)
        time.sleep(60)

import_run(Slow(), Path(sys.argv[1]), "digits")
"""


def test_an_import_that_is_killed_leaves_no_run(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path / "runs"), str(__file__).rpartition("/")[0]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(errors.RunNotFoundError):
        rankzero.read_run(tmp_path / "runs" / "digits" / ID)
    done = write(Diary(*EVENTS), tmp_path)
    assert done.outcome is Outcome.NEW
    assert rankzero.read_run(done.info.dir).status == "success"


def test_an_import_that_fails_leaves_no_run(tmp_path):
    def fail(files, report):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write(Diary(EVENTS[0], fail), tmp_path)
    assert [each.name for each in (tmp_path / "runs" / "digits" / ID).iterdir()] == ["writer.lock"]
    assert write(Diary(*EVENTS), tmp_path).outcome is Outcome.NEW


def test_two_imports_of_a_run_do_not_mix(tmp_path):
    run_dir = tmp_path / "runs" / "digits" / ID
    run_dir.mkdir(parents=True)
    lock = WriterLock(run_dir)
    try:
        with pytest.raises(errors.RunInUseError):
            write(Diary(*EVENTS), tmp_path)
    finally:
        lock.release()


def test_lone_surrogates_are_escaped(tmp_path):
    done = write(Diary(Params(1.0, {"s": "\ud800"}), Text(2.0, "t\ud800", ["value"], [["x"]])), tmp_path)
    run = rankzero.read_run(done.info.dir)
    assert run.params == {"s": "\\ud800"}
    assert list(run.texts) == ["t\\ud800"]
    again = Diary(Params(1.0, {"s": "\ud800"}), Text(2.0, "t\ud800", ["value"], [["x"]]))
    assert write(again, tmp_path).outcome is Outcome.UNCHANGED


def test_artifacts_count_as_files(tmp_path):
    def model(files, report):
        return Artifact(1.0, files.put_bytes((b"weights", ".pt")).path, "model", "file")

    done = write(Diary(model), tmp_path)
    assert (done.values, done.files) == (0, 1)
    with open(rankzero.read_run(done.info.dir).artifacts[0].path, "rb") as file:
        assert file.read() == b"weights"


@pytest.mark.parametrize(
    ("identity", "run_id"),
    [
        ("70751272-4BC2-408e-b1d2-0ce26c099b97", "707512724bc2408eb1d20ce26c099b97"),
        ("team/digits/r-1", "46e261ee85331689f05f79cdeba63d9b"),
    ],
)
def test_every_tracker_accepts_the_ids(identity, run_id):
    assert run_id_of(identity) == run_id
    assert len(run_id) == 32
    assert run_id.isalnum()


@pytest.mark.parametrize(
    ("project", "directory"),
    [
        ("team/my digits", "team/my digits"),
        ("../../etc", "etc"),
        ("/a\\b\0", "a_b_"),
        ("..", "imported"),
        ("", "imported"),
    ],
)
def test_a_project_cannot_lead_out_of_the_directory(project, directory):
    assert project_name(project) == directory


def test_progress_and_left_out_data(tmp_path):
    def report(files, report):
        report.progress(10)
        report.leave_out("art", "it is elsewhere")
        report.leave_out("art", "it is elsewhere", 2)
        return Tags(1.0, ["a"])

    read = []
    done = import_run(Diary(report, report), tmp_path, "digits", read.append)
    assert read == [10, 10]
    assert done.report.left_out == {("art", "it is elsewhere"): 6}


def test_the_number_of_named_items_is_limited():
    report = Report()
    for number in range(5000):
        report.leave_out(f"line {number}", "it is damaged")
    assert len(report.left_out) == 1001
    assert sum(report.left_out.values()) == 5000


def test_many_points_take_little_memory(tmp_path):
    code = """
    import resource, sys
    from pathlib import Path
    sys.path[:0] = [sys.argv[2], sys.argv[2] + "/.."]
    from rankzero.events.structs import Metrics
    from rankzero.importers.writing import import_run
    from test_writing import Diary
    class Long(Diary):
        def events(self, files, report):
            return (Metrics(float(step), step, {"a": step / 3, "b": 1.0}) for step in range(200_000))
    import_run(Diary(Metrics(0.0, 0, {"a": 0.0, "b": 1.0})), Path(sys.argv[1]), "digits")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(import_run(Long(), Path(sys.argv[1]), "digits").values)
    print(import_run(Long(), Path(sys.argv[1]), "digits").values)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(__file__).rpartition("/")[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE)
    assert done.returncode == 0, done.stderr
    new, again, kilobytes = map(int, done.stdout.split())
    assert (new, again) == (399_998, 0)
    assert kilobytes < 20_000


class Notebook(FoundRun):
    """Continues at a page."""

    identity = ID
    project = "digits"
    source = "notebook.txt"

    def __init__(self, *pages):
        self.pages = pages
        self.position = 0

    def resume(self, position):
        self.position = position
        return True

    def header(self):
        return Header("notes")

    def events(self, files, report):
        for page in self.pages[self.position :]:
            self.position += 1
            yield Metrics(5.0 + page, page, {"loss": page / 4})


def test_with_other_options_everything_is_compared(tmp_path):
    def imported(*pages, **options):
        return import_run(Notebook(*pages), tmp_path / "runs", "digits", options=options).outcome

    assert imported(1, 2, step="step") is Outcome.NEW
    assert imported(3, 2, step="step") is Outcome.UNCHANGED  # it continues
    assert imported(3, 2, step="epoch") is Outcome.DIFFERENT
    assert imported(1, 2, step="epoch") is Outcome.UNCHANGED

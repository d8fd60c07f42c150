"""Snapshots of logged files: what waits for copies, failed copies, and messages at the end of a run."""

import os
import resource
import shutil
import signal
import threading
import time
import warnings
from types import SimpleNamespace

import pytest
from servers.training import Training
from waiting import A_WHILE, SOON

import rankzero
from rankzero.events.structs import Artifact, Checkpoint, Finish
from rankzero.journal.tail import read_events
from rankzero.media.store import MediaStore
from rankzero.run import snapshots
from rankzero.run.snapshots import Snapshots
from rankzero.rundir.layout import JOURNAL


@pytest.fixture(autouse=True)
def smallest_large_file(monkeypatch):
    """Have a thread copy files of any size."""
    monkeypatch.setattr(snapshots, "_SMALL", -1)


@pytest.fixture
def may_copy(monkeypatch):
    """Hold the copies of the thread back until this is set."""
    event = threading.Event()

    def later(copy):
        def copy_later(*args, **options):
            if threading.current_thread().name == "rankzero-snapshots":
                assert event.wait(A_WHILE)
            return copy(*args, **options)

        return copy_later

    monkeypatch.setattr(shutil, "copyfileobj", later(shutil.copyfileobj))
    monkeypatch.setattr(MediaStore, "put_open", later(MediaStore.put_open))
    yield event
    event.set()


@pytest.fixture
def take(tmp_path):
    """Write a checkpoint and keep a snapshot of it; once it is there, its path is in ``take.kept``."""

    def take(name, may_change=True):
        source = tmp_path / name
        source.write_text(f"content of {name}")
        then = lambda path: take.kept.append(tmp_path / "run" / path)  # noqa: E731
        take.snapshots.take(source, then, may_change=may_change, even_if_full=False)

    take.snapshots, take.kept = in_directory(tmp_path / "run"), []
    return take


def in_directory(run_dir):
    return Snapshots(MediaStore(run_dir))


def left(tmp_path):
    """Return what there is in the run's directory of snapshots."""
    directory = tmp_path / "run" / "checkpoints"
    return list(directory.iterdir()) if directory.exists() else []


def callback(path, **fields):
    return SimpleNamespace(_last_checkpoint_saved=str(path), last_model_path=str(path), **fields)


# The thread


def test_copies_and_links_keep_their_order_and_do_not_block_the_caller(take, may_copy):
    names = [f"{index}.ckpt" for index in range(16)]
    for index, name in enumerate(names):
        take(name, may_change=index % 2 == 0)
    assert take.kept == []
    assert [os.path.basename(path) for path in take.snapshots.waiting()] == names
    assert sum(thread.name == "rankzero-snapshots" for thread in threading.enumerate()) == 1
    may_copy.set()
    assert take.snapshots.wait(A_WHILE)
    assert [path.name for path in take.kept] == names
    assert [path.read_text() for path in take.kept] == [f"content of {name}" for name in names]


def test_too_many_copies_leave_the_newest_out(tmp_path, take, may_copy):
    for index in range(8):
        take(f"{index}.ckpt")
    with pytest.raises(OSError, match="8 files before it are still being copied"):
        take("more.ckpt")
    assert len(left(tmp_path)) == 8
    take("linked.ckpt", may_change=False)
    may_copy.set()
    assert take.snapshots.wait(A_WHILE)
    take("later.ckpt")
    assert take.snapshots.wait(A_WHILE)


def test_a_checkpoint_that_cannot_be_kept_does_not_affect_later_ones(tmp_path, may_copy, caplog):
    names = [f"{index}.ckpt" for index in range(11)]
    for index, name in enumerate(names):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (index, index))
    models = dict.fromkeys(map(str, map(tmp_path.joinpath, names)), 0.5)
    fixed = SimpleNamespace(best_k_models=dict(list(models.items())[:10]), _enable_version_counter=False)
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        run.after_save_checkpoint(fixed)
        run.after_save_checkpoint(SimpleNamespace(best_k_models=models))
        may_copy.set()
    recorded = [event for _, event in read_events(run.dir / JOURNAL) if isinstance(event, Checkpoint)]
    assert [os.path.basename(event.source) for event in recorded] == [*names[:8], names[10]]
    said = [message for message in caplog.messages if "could not be kept" in message]
    assert [str(tmp_path / name) in message for name, message in zip(names[8:10], said, strict=True)] == [True, True]


def test_a_checkpoint_that_cannot_be_linked_or_opened_does_not_affect_later_ones(tmp_path, monkeypatch, caplog):
    link = os.link

    def link_some(source, target):
        if source.endswith("first.ckpt"):
            os.unlink(source)  # by a rotation that is faster
        link(source, target)

    monkeypatch.setattr(os, "link", link_some)
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    for index, path in enumerate((first, second)):
        path.write_text("content")
        os.utime(path, (index, index))
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        run.after_save_checkpoint(SimpleNamespace(best_k_models={str(first): 0.1, str(second): 0.2}))
    assert [event.source for _, event in read_events(run.dir / JOURNAL) if isinstance(event, Checkpoint)] == [
        str(second)
    ]
    assert f"the checkpoint {first} could not be kept" in caplog.text
    assert len(list((run.dir / "checkpoints").iterdir())) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_touch_copies_of_its_parent(take, may_copy):
    take("parent.ckpt")
    pid = os.fork()
    if pid == 0:
        may_copy.set()
        is_free = take.snapshots.wait(0) and take.snapshots.waiting() == []
        take("child.ckpt")
        os._exit(0 if is_free and take.snapshots.wait(A_WHILE) and take.kept[0].exists() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(take.snapshots.waiting()) == 1


# log_artifact and log_checkpoint


@pytest.fixture
def run(tmp_path):
    with rankzero.start("csv", dir=tmp_path / "runs", delivery="off") as run:
        yield run


def kept_of(run, event_type):
    """Return what was kept of each event of a type."""
    return [
        (run.dir / event.path).read_text()
        for _, event in read_events(run.dir / JOURNAL)
        if isinstance(event, event_type)
    ]


@pytest.mark.parametrize(("verb", "event_type"), [("log_artifact", Artifact), ("log_checkpoint", Checkpoint)])
@pytest.mark.parametrize("then", ["replace", "delete"])
def test_a_large_file_is_copied_as_it_was_without_blocking_the_caller(run, tmp_path, may_copy, verb, event_type, then):
    source, newer = tmp_path / "file", tmp_path / "newer"
    source.write_text("older")
    newer.write_text("newer")
    getattr(run, verb)(source)
    newer.replace(source) if then == "replace" else source.unlink()
    assert kept_of(run, event_type) == []
    may_copy.set()
    assert run.flush()
    assert kept_of(run, event_type) == ["older"]


@pytest.mark.parametrize(("verb", "event_type"), [("log_artifact", Artifact), ("log_checkpoint", Checkpoint)])
@pytest.mark.parametrize("why", ["small", "eight wait", "nobody waits"])
def test_a_file_that_is_copied_at_once_may_be_overwritten_in_place(
    run, tmp_path, may_copy, monkeypatch, verb, event_type, why
):
    source = tmp_path / "file"
    if why == "small":
        monkeypatch.setattr(snapshots, "_SMALL", 5)
    elif why == "eight wait":
        monkeypatch.setattr(snapshots, "_MOST_COPIES", 0)
    else:
        monkeypatch.setattr(run, "_owner", None)  # a forked or spawned child, which ends without waiting
    for content in ("older", "newer"):
        source.write_text(content)
        getattr(run, verb)(source)
    assert kept_of(run, event_type) == ["older", "newer"]


def test_a_growing_file_is_kept_as_it_was_when_logged(run, tmp_path, may_copy, caplog):
    source = tmp_path / "training.log"
    source.write_text("one\n")
    run.log_artifact(source)
    with open(source, "a") as file:
        file.write("two\n")
    may_copy.set()
    assert run.flush()
    assert kept_of(run, Artifact) == ["one\n"]
    assert f"{source} was written while it was copied" in caplog.text


# What is left


def test_a_failed_copy_leaves_nothing(tmp_path, take, monkeypatch, caplog):
    def fill_the_disk(source, target, length):
        target.write(source.read(3))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fill_the_disk)
    take("a.ckpt")
    assert take.snapshots.wait(A_WHILE)
    assert (take.kept, left(tmp_path)) == ([], [])
    assert f"{tmp_path / 'a.ckpt'} could not be kept" in caplog.text


def test_an_overwritten_file_leaves_no_copy(tmp_path, may_copy, caplog):
    source, taken = tmp_path / "sharded", in_directory(tmp_path / "run")
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_text("older")
    taken.take(source, pytest.fail)
    for name in ("a", "b"):
        (source / name).write_text("newer, and longer")
    may_copy.set()
    assert taken.wait(A_WHILE)
    assert left(tmp_path) == []
    assert "a was overwritten before it was copied" in caplog.text


@pytest.fixture
def odd_directory(tmp_path):
    """A directory with all that cannot be copied as it is, and where the runs are kept."""
    source = tmp_path / "work"
    (source / "data").mkdir(parents=True)
    (source / "data" / "a").write_text("content")
    (source / "file").symlink_to("data/a")
    (source / "best").symlink_to("data")
    (source / "here").symlink_to(".")
    (source / "data" / "up").symlink_to("..")
    (source / "broken").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    return source


LEFT_OUT = ["best/up", "broken", "data/up", "here", "pipe", "rankzero-runs"]


@pytest.mark.parametrize("way", ["log_artifact", "log_checkpoint", "copied", "copied at once", "linked"])
def test_a_directory_is_kept_without_runs_loops_and_pipes(odd_directory, caplog, way):
    with rankzero.start("csv", dir=odd_directory / "rankzero-runs", delivery="off") as run:
        run.log_text("note", "kept")
        if way.startswith("log"):
            getattr(run, way)(odd_directory)
            run.flush()
        else:
            taken = in_directory(run.dir)
            taken.take(odd_directory, lambda path: None, may_change=way != "linked", at_once=way == "copied at once")
            assert taken.wait(A_WHILE)
        (kept,) = (run.dir / "checkpoints").glob("*/work")
    found = {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("*") if path.is_file()}
    assert found == dict.fromkeys(["best/a", "data/a", "file"], "content")
    (said,) = [record.getMessage() for record in caplog.records if "is kept without" in record.getMessage()]
    assert [each.split(" (")[0] for each in said.partition("files: ")[2].split("), ")] == LEFT_OUT


@pytest.mark.parametrize("verb", ["log_artifact", "log_checkpoint", "log_image"])
def test_a_pipe_is_rejected_without_blocking(odd_directory, caplog, verb):
    caplog.set_level("WARNING")
    with rankzero.start("csv", dir=odd_directory / "rankzero-runs", delivery="off") as run:
        args = [odd_directory / "pipe"] if verb != "log_image" else ["i", odd_directory / "pipe"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(run, verb)(*args)
    assert ["pipe" in text for text in [str(each.message) for each in caught] + caplog.messages] == [True]


@pytest.mark.parametrize("how", [{"may_change": False}, {"may_change": True}, {"at_once": True}])
def test_a_missing_file_leaves_no_directory(tmp_path, how):
    with pytest.raises(FileNotFoundError):
        in_directory(tmp_path / "run").take(tmp_path / "nowhere", pytest.fail, **how)
    assert left(tmp_path) == []


def test_a_missing_checkpoint_is_reported_each_time(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model-1.pt").touch()
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run:
        caplog.clear()
        for _ in range(2):
            run.log_checkpoint("model_1.pt")
        run.log_checkpoint({"weight": 1.0})
        run.log_checkpoint("nowhere/model.pt")
    first, second, third, fourth = caplog.messages
    assert first == second
    assert f"no file or directory {tmp_path / 'model_1.pt'} (the working directory is {tmp_path})" in first
    assert "Did you mean 'model-1.pt'?" in first
    assert "torch.save(state, 'model.pt')" in third
    assert f"no directory {tmp_path / 'nowhere'} either" in fourth
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_a_directory_of_many_files_leaves_room_for_other_files(tmp_path, may_copy):
    source, taken, kept = tmp_path / "sharded", in_directory(tmp_path / "run"), []
    source.mkdir()
    for index in range(300):
        (source / f"{index}").write_text(f"content {index}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 150, hard))
    try:
        taken.take(source, kept.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    shutil.rmtree(source)
    may_copy.set()
    assert taken.wait(A_WHILE)
    target = tmp_path / "run" / kept[0]
    assert {path.name: path.read_text() for path in target.iterdir()} == {f"{i}": f"content {i}" for i in range(300)}


# The end of a run


def test_a_warning_names_copies_that_finish_does_not_wait_for(tmp_path, may_copy, caplog):
    path = tmp_path / "last.ckpt"
    path.write_text("content")
    run = rankzero.start(dir=tmp_path / "runs", delivery="off")
    run.after_save_checkpoint(callback(path))
    began = time.monotonic()
    run.finish(timeout=0.5)
    assert time.monotonic() - began < SOON
    assert f"ends before these files are copied into its directory: {path}" in caplog.text
    may_copy.set()
    assert run._files.snapshots.wait(A_WHILE)
    (*_, finish, late) = [event for _, event in read_events(run.dir / JOURNAL)]
    assert isinstance(finish, Finish)
    assert isinstance(late, Checkpoint)
    assert (run.dir / late.path).read_text() == "content"
    assert "could not be kept" not in caplog.text


def test_a_flush_has_one_deadline(tmp_path, may_copy, monkeypatch):
    path = tmp_path / "last.ckpt"
    path.write_text("content")
    with rankzero.start(dir=tmp_path / "runs", delivery="thread") as run:
        run.after_save_checkpoint(callback(path))
        given, wait = [], run._owner.supervisor.wait
        monkeypatch.setattr(
            run._owner.supervisor,
            "wait",
            lambda size, timeout, **kw: (given.append(timeout), wait(size, timeout, **kw)),
        )
        assert not run.flush(timeout=0.5)
        assert given == [0.0]
        monkeypatch.undo()
        may_copy.set()


SAVE = """
    import shutil, threading
    from types import SimpleNamespace

    from rankzero.run import snapshots

    shutil.copyfileobj = lambda *args: time.sleep(1000)  # a file system that hangs
    snapshots._SMALL = -1
    run = begin()
    run.log_metrics({"loss": 1.0})
    path = directory / "last.ckpt"
    path.write_text("content")
    run.after_save_checkpoint(SimpleNamespace(_last_checkpoint_saved=str(path), last_model_path=str(path)))
"""


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    yield training
    training.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "exit_status", "status"),
    [
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM, "aborted"),
        ("from rankzero.run import endings; endings._open_runs[run] = 1.0", 0, "success"),
        ("run.finish(timeout=1.0)", 0, "success"),
        ("threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start(); run.finish()", 0, "success"),
    ],
)
def test_a_hanging_copy_does_not_block_the_exit_and_is_reported(training, ending, exit_status, status):
    training.start(f"{SAVE}    {ending}\n")
    returned, _, stderr = training.wait()
    assert (returned, training.statuses()) == (exit_status, [status])
    assert f"are copied into its directory: {training.directory / 'last.ckpt'};" in stderr

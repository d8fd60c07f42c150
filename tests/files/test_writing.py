"""Files are replaced whole, and nothing is written, or waited for, through a link or a pipe."""

import errno
import os
import stat
from contextlib import suppress

import pytest

from rankzero.errors import NotAFileError, UnsafePathError
from rankzero.files import writing
from rankzero.files.directories import place_at
from rankzero.journal.append import Journal, cut_torn_tail
from rankzero.loggers.csv.file import CsvFile
from rankzero.loggers.csv.hparams import HparamsFile
from rankzero.loggers.csv.projection import Projection
from rankzero.rundir.positions import Position, courier_lock, load_position, save_position, wake
from rankzero.rundir.writer_lock import WriterLock


@pytest.fixture
def elsewhere(tmp_path):
    path = tmp_path / "elsewhere"
    path.write_bytes(b"mine\n")
    return path


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


WRITERS = {
    "csv.position.json": lambda run_dir: save_position(run_dir, "csv", Position(line=1)),
    "csv.wake": lambda run_dir: wake(run_dir, "csv"),
    "csv.courier.lock": lambda run_dir: courier_lock(run_dir, "csv"),
    "writer.lock": WriterLock,
    "journal.jsonl": lambda run_dir: Journal(run_dir / "journal.jsonl").append(b"line\n"),
    "metrics.csv": lambda run_dir: CsvFile(place_at(str(run_dir)), "metrics.csv", ["a"]).append([{"a": 1}]),
    ".metrics.csv.delivered": lambda run_dir: Projection(place_at(str(run_dir)), "metrics.csv", "r", is_alone=True),
    "hparams.yaml": lambda run_dir: HparamsFile(place_at(str(run_dir))).add({"a": 1}),
}


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_through_links_in_a_run_directory(run_dir, elsewhere, name, kind):
    target = elsewhere if kind == "link" else run_dir.parent / "not there"
    os.mkfifo(run_dir / name) if kind == "pipe" else (run_dir / name).symlink_to(target)
    with suppress(NotAFileError):  # what is replaced need not be refused
        WRITERS[name](run_dir)
    assert elsewhere.read_bytes() == b"mine\n"
    assert sorted(path.name for path in run_dir.parent.iterdir()) == ["elsewhere", "run"]


def test_a_torn_tail_is_not_cut_off_another_file(run_dir, elsewhere):
    elsewhere.write_bytes(b"mine\nand more")
    (run_dir / "journal.jsonl").symlink_to(elsewhere)
    with pytest.raises(NotAFileError, match="is a link"):
        cut_torn_tail(run_dir / "journal.jsonl")
    assert elsewhere.read_bytes() == b"mine\nand more"


def test_a_position_that_is_a_link_counts_as_none(run_dir, elsewhere):
    elsewhere.write_bytes(b'{"line":7}')
    (run_dir / "csv.position.json").symlink_to(elsewhere)
    assert load_position(run_dir, "csv").line == 0


def test_names_beside_cannot_be_guessed(run_dir, elsewhere, monkeypatch):
    for name in (".rankzero.part", "csv.position.part", ".csv.position.json.part"):
        (run_dir / name).symlink_to(elsewhere)
    names = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(os.path.basename(old)), replace(old, new)))
    for _ in range(2):
        writing.write_file(run_dir / "csv.position.json", b"{}")
    assert len(set(names)) == 2
    assert elsewhere.read_bytes() == b"mine\n"


@pytest.mark.parametrize(
    "write", [writing.write_file, lambda path, content: writing.copy_file(path.parent / "new", path)]
)
def test_a_disk_that_gets_full_leaves_the_old_file(tmp_path, monkeypatch, write):
    (tmp_path / "kept").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]


@pytest.mark.parametrize("can_link", [True, False])
def test_a_link_or_copy_replaces_an_existing_file(tmp_path, monkeypatch, can_link):
    if not can_link:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EXDEV, "elsewhere")))
    (tmp_path / "source").write_bytes(b"whole")
    (tmp_path / "link").symlink_to("source")
    for source in ("source", "link", "source"):  # the third: both are names of one file already
        if source == "link":
            (tmp_path / "kept").unlink()
            (tmp_path / "kept").write_bytes(b"who")  # the torso that a kill left
        writing.link_or_copy(tmp_path / source, tmp_path / "kept")
        assert (tmp_path / "kept").read_bytes() == b"whole"
        assert os.path.samefile(tmp_path / "source", tmp_path / "kept") == can_link
        assert stat.S_ISREG(os.lstat(tmp_path / "kept").st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link", "source"]


@pytest.mark.parametrize("copy", [writing.copy_file, writing.link_or_copy])
def test_a_pipe_or_a_directory_is_not_copied(tmp_path, copy):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", tmp_path):
        with pytest.raises(NotAFileError):
            copy(source, tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_paths_inside_a_directory(run_dir, elsewhere):
    (run_dir / "media").mkdir()
    (run_dir / "here").symlink_to("media")
    (run_dir / "out").symlink_to(elsewhere)
    (run_dir.parent / "run-2").mkdir()
    for path in ("media/a.png", "here/a.png", "media/../media/a", "not/there"):
        assert writing.inside(run_dir, path) == run_dir / path
    for path in ("", ".", "..", "../run-2/a", "/etc/passwd", str(run_dir / "media"), "out", "media/../..", "a\0b"):
        with pytest.raises(UnsafePathError, match="is not a path inside"):
            writing.inside(run_dir, path)
    (run_dir.parent / "link to run").symlink_to(run_dir)
    assert writing.inside(run_dir.parent / "link to run", "media/a") == run_dir.parent / "link to run" / "media/a"


@pytest.mark.parametrize("content", [None, b"", b'{"a": "text"}', b'{"\xff": 1}'])
def test_json_that_is_missing_or_damaged_is_none(tmp_path, content):
    path = tmp_path / "own.json"
    path.write_bytes(b'{"a": 1}')
    assert writing.read_own_json(path, dict[str, int]) == {"a": 1}
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert writing.read_own_json(path, dict[str, int]) is None

"""An fsspec URL: files are uploaded when flushed, continued by the next process, and stay small."""

import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from servers.event_files import hparams, scalars

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero_tensorboard import TensorBoardLogger, session


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


def fetched(url, directory):
    """Copy all files to this machine."""
    fs, root = fsspec.core.url_to_fs(url)
    directory.mkdir()
    for path in fs.ls(root, detail=False):
        (directory / path.rpartition("/")[2]).write_bytes(fs.cat_file(path))
    return sorted(each.name for each in directory.iterdir())


def deliver(run, url, first, lines):
    logger = TensorBoardLogger(url)
    logger.attach(run)
    assert logger.watermark() == first
    for line in range(first, lines):
        logger.log_metrics_batch([MetricsRow({"loss": line / 2}, line, LogContext(1.7e9 + line, line))])
        logger.flush()
    logger.log_hyperparams({f"lines before {lines}": first})
    logger.finalize("success")
    logger.close()
    return logger.log_dir


def test_direct_use(url, tmp_path):
    logger = TensorBoardLogger(url, flush_secs=0)
    logger.log_hyperparams({"lr": 0.1})
    for step in range(3):
        logger.log_metrics({"loss": step / 2}, step)
    assert len(fetched(logger.log_dir, tmp_path / "before")) == 3
    logger.finalize("success")
    logger.close()
    assert logger.log_dir == f"{url}/lightning_logs/version_0"
    assert TensorBoardLogger(url).version == 1
    fetched(logger.log_dir, tmp_path / "after")
    assert scalars(tmp_path / "after")["loss"] == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_pending_files_are_uploaded_when_the_logger_is_deleted(url, tmp_path):
    logger = TensorBoardLogger(url)
    logger.log_metrics({"loss": 0.5}, 0)
    log_dir = logger.log_dir
    del logger
    fetched(log_dir, tmp_path / "after")
    assert scalars(tmp_path / "after") == {"loss": [(0, 0.5)]}


def test_a_run_is_continued_in_small_files(url, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_LARGEST_UPLOAD", 500)
    run = RunInfo("r1", "first", "digits", str(tmp_path), started=1.7e9)
    for first, lines in ((0, 10), (10, 25), (25, 25), (25, 120)):
        log_dir = deliver(run, url, first, lines)
    names = [name for name in fetched(log_dir, tmp_path / "after") if ".values" in name]
    assert names[0].endswith(".values")
    assert hparams(tmp_path / "after") == {"lines before 10": 0, "lines before 25": 25, "lines before 120": 25}
    assert len(names) > 10
    assert scalars(tmp_path / "after")["loss"] == [(line, line / 2) for line in range(120)]
    sizes = [(tmp_path / "after" / name).stat().st_size for name in names]
    assert max(sizes) < 700


def test_a_new_file_hides_only_earlier_events(url, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_LARGEST_UPLOAD", 200)
    logger = TensorBoardLogger(url, purge_step=0, flush_secs=0)
    for step in (0, 1, 2, 3, 4, 5, 6, 7):
        logger.log_metrics({"loss": step / 2}, step)
    logger.close()
    assert len(fetched(logger.log_dir, tmp_path / "after")) > 2
    assert scalars(tmp_path / "after")["loss"] == [(step, step / 2) for step in range(8)]


def test_an_unchanged_file_is_not_uploaded(url, tmp_path, monkeypatch):
    uploads = []
    put_file = MemoryFileSystem.put_file

    def noted(self, source, target):
        uploads.append(target)
        put_file(self, source, target)

    monkeypatch.setattr(MemoryFileSystem, "put_file", noted)
    logger = TensorBoardLogger(url)
    logger.attach(RunInfo("r1", "first", "digits", str(tmp_path)))
    logger.log_metrics({"loss": 0.5}, 0)
    for _ in range(3):
        logger.flush()
    logger.close()
    assert len([path for path in uploads if url.removeprefix("memory:/") in path]) == 1


def test_an_upload_that_fails_is_repeated(url, tmp_path, monkeypatch):
    run = RunInfo("r1", "first", "digits", str(tmp_path), started=1.7e9)
    logger = TensorBoardLogger(url)
    logger.attach(run)
    row = MetricsRow({"loss": 0.5}, 0, LogContext(1.7e9, 0))
    logger.log_metrics_batch([row])
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", fail)
        with pytest.raises(TrackerUnavailableError):
            logger.flush()
    logger.log_metrics_batch([row])
    logger.flush()
    log_dir = logger.log_dir
    logger.close()
    fetched(log_dir, tmp_path / "after")
    assert scalars(tmp_path / "after") == {"loss": [(0, 0.5)]}


def fail(*args, **kwargs):
    raise OSError("the network is down")

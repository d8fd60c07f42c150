"""Import a run from the logs of W&B's client: one log for each process of the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import EnvironmentRecord, Record, RunRecord

from rankzero.capture.environment import Environment, Git
from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.media.store import MediaStore
from rankzero.secrets import mask_arguments
from rankzero_wandb.importing.files import RunFiles
from rankzero_wandb.importing.record_log import MAGIC, RecordLog
from rankzero_wandb.importing.translator import State, Translator, decode, seconds, valid_time
from rankzero_wandb.opening import MARK

_MOST_DESCRIPTION = 1 << 18  # bytes at the beginning of a log that are searched for the description of the run
_INTERRUPTED = 255
_ID = re.compile(r"run-(.+)\.wandb")


class LoggedRun(FoundRun):
    """A run that one or more processes logged, one after the other.

    Args:
        run_id: W&B's id of the run.
        project: W&B's project, None if unknown.
        logs: the descriptions of the logs of the processes.
        follow_links: whether files of the run may be links out of its directory.
    """

    def __init__(self, run_id: str, project: str | None, logs: Sequence[Description], follow_links: bool) -> None:
        self.identity = run_id
        self.project = project
        self._found = sorted(logs, key=lambda each: (each.opened, each.log.name))
        self._logs = [each.log for each in self._found]
        self.source = str(self._logs[0].path.parent)
        self.size = sum(log.size for log in self._logs)
        self._follow_links = follow_links
        self._state = State()

    def resume(self, position: Any) -> bool:
        try:
            self._state = msgspec.convert(position, State)
        except msgspec.ValidationError:
            return False
        sizes = {log.name: log.size for log in self._logs}
        if any(end > sizes.get(name, 0) for name, end in self._state.ends.items()):
            self._state = State()
            return False
        self.size -= sum(self._state.ends.values())
        return True

    def header(self) -> Header:
        found = self._found
        run, first, parent = found[-1].run, found[0].run, found[0].parent
        has_group = run.run_group not in ("", parent)  # a nested run without a group gets its parent's id
        return Header(
            name=run.display_name,
            notes=run.notes or None,
            tags=tuple(first.tags),
            started=found[0].started,
            status={0: "success", _INTERRUPTED: "aborted", None: "aborted"}.get(found[-1].exit_code, "failed"),
            group=run.run_group if has_group else None,
            parent=parent or None,
        )

    def environment(self, files: MediaStore) -> Environment | None:
        return self._found[0].environment_in(files)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        described = () if self._state.ends else self._found[0].run.tags  # the run keeps the tags of the first import
        translator = Translator(self._state, report, described)
        for log in self._logs:
            translator.files = RunFiles(log.path.parent, files, report, self._follow_links)
            for record in self._records(log, report):
                translator.is_damaged |= log.is_damaged
                yield from translator.events(record)
            self._state.ends[log.name] = log.end
        yield from translator.finish()
        self.position = msgspec.to_builtins(self._state)

    def _records(self, log: RecordLog, report: Report) -> Iterator[Any]:
        """Yield the records of a log, and report those that are damaged."""
        last = None
        for data in log.records(self._state.ends.get(log.name, len(MAGIC)), report.progress):
            try:
                record = Record.FromString(data)
            except DecodeError:
                log.is_damaged = True
                continue
            if log.is_damaged:
                lost = record.num - last - 1 if last is not None else 1  # records are numbered
                report.leave_out(f"records of {log.path.name}", "the log is damaged", max(1, lost))
            last = record.num
            yield record
            log.is_damaged = False
        if log.is_torn:
            reason = "it is incomplete: its process was killed, or is still writing it"
            report.leave_out(f"the last record of {log.path.name}", reason)


class Description:
    """The description of a run, from the first and the last records of a log."""

    def __init__(self, log: RecordLog) -> None:
        self.run = RunRecord()
        self.exit_code: int | None = None
        self.is_empty = True
        """Whether there is no complete record."""
        self._environment = EnvironmentRecord()
        self.log = log
        for data in log.records(len(MAGIC)):
            self._note(data)
            if log.end > _MOST_DESCRIPTION:
                break
        if log.tail() > log.end:
            for data in log.records(log.tail()):
                self._note(data)
        log.is_damaged = log.is_torn = False

    def _note(self, data: bytes) -> None:
        try:
            record = Record.FromString(data)
        except DecodeError:
            return
        self.is_empty = False
        if record.HasField("run"):
            self.run = record.run
        elif record.HasField("environment"):
            self._environment.MergeFrom(record.environment)
        elif record.HasField("exit"):
            self.exit_code = record.exit.exit_code

    @property
    def opened(self) -> float:
        """When the process opened the run, Unix time in seconds."""
        return valid_time(seconds(self.run.start_time))

    @property
    def started(self) -> float:
        """When the run started, Unix time in seconds; rankzero's courier opens a run later than it started."""
        return valid_time(self._mark.get("started")) if self._mark else self.opened

    @property
    def parent(self) -> str:
        """The id of the run of rankzero that this one is nested under; empty if it is not nested."""
        return str(self._mark.get("parent") or "")

    @property
    def _mark(self) -> dict[str, Any]:
        """The data that rankzero's logger adds to the config of its runs; empty for other runs."""
        marks = [decode(item.value_json) for item in self.run.config.update if item.key == MARK]
        return marks[0] if marks and isinstance(marks[0], dict) else {}

    def environment_in(self, store: MediaStore) -> Environment | None:
        """Return the environment of the process, and store its files."""
        known = self._environment
        if not known.python:
            return None
        files = RunFiles(self.log.path.parent, store, Report(), follow_links=False)

        def stored(name: str) -> str | None:
            return next((file.path for file in files.put([(name, None)], name)), None)

        repository = known.git
        git = Git(known.root, repository.commit, remote=repository.remote_url or None, diff=stored("diff.patch"))
        return Environment(
            host=known.host,
            user=known.username,
            cwd=known.root,
            argv=tuple(mask_arguments([known.program, *known.args], [])),
            program=known.program,
            executable=known.executable,
            python=known.python.removeprefix("CPython "),
            started=valid_time(seconds(known.started_at)),
            cpu=known.cpu.model,
            cpus=known.cpu_count_logical,
            memory=known.memory.total,
            gpus=tuple(gpu.name for gpu in known.gpu_nvidia),
            git=git if repository.commit else None,
            packages=stored("requirements.txt"),
            code=stored(f"code/{known.code_path}") if known.code_path else None,
        )


def run_id_in(path: Path) -> str | None:
    """Return W&B's id of the run from the name of a log, None if it is not a log."""
    match = _ID.fullmatch(path.name)
    return match and match[1]

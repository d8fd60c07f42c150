"""`WandbImporter`: find the runs of W&B's client in files and directories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from rankzero.errors import RunError, RunNotFoundError
from rankzero.importers.base import FoundRun, Importer, SkippedSource, SkipRun
from rankzero.importers.searching import find_files
from rankzero_wandb.importing.record_log import MAGIC, RecordLog
from rankzero_wandb.importing.run import Description, LoggedRun, run_id_in


class WandbImporter(Importer):
    """Imports runs that W&B's client logged, offline or online.

    Args:
        follow_links: also import files outside a run's directory to which links in it point, as ``wandb.save`` creates
            them. Use it only for your own runs.
    """

    summary: ClassVar[str] = "wandb/offline-run-* and wandb/run-* directories (run-ID.wandb)"

    def __init__(self, follow_links: bool = False) -> None:
        self._follow_links = follow_links

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        skipped: dict[Path, FoundRun] = {}
        runs: dict[tuple[str, str | None], dict[object, Description]] = {}
        for path in _find_logs(sources, skipped):
            try:
                new = Description(RecordLog(path))
            except OSError as error:
                skipped[path] = SkippedSource.unreadable(path, error)
                continue
            if new.is_empty:
                is_damaged = new.log.size > len(MAGIC)
                reason = RunError("its log has no complete record") if is_damaged else SkipRun("its log is empty")
                skipped[path] = SkippedSource(path.parent, reason)
                continue
            logs = runs.setdefault((run_id_in(path) or "", new.run.project or None), {})
            process = new.opened or new.log.name
            known = logs.setdefault(process, new)
            if known is not new:
                logs[process], copy = (new, known) if new.log.size > known.log.size else (known, new)
                reason = SkipRun(f"it is a copy of {logs[process].log.path}")
                skipped[copy.log.path] = SkippedSource(copy.log.path, reason)
        found = [LoggedRun(*run, list(runs[run].values()), self._follow_links) for run in sorted(runs, key=str)]
        return [*found, *skipped.values()]


def _find_logs(sources: Sequence[str], skipped: dict[Path, FoundRun]) -> list[Path]:
    """Return the paths of all logs, each once; add those that cannot be read to ``skipped``.

    Raises:
        RunNotFoundError: a source has no log.
    """
    found: dict[Path, None] = {}
    for source in sources:
        before = len(found) + len(skipped)

        def add_unreadable(path: Path, error: OSError) -> None:
            skipped[path] = SkippedSource.unreadable(path, error)

        new = [path.resolve() for path in find_files(source, lambda path: run_id_in(path) is not None, add_unreadable)]
        found.update(dict.fromkeys(path for path in new if run_id_in(path)))
        if not new and len(found) + len(skipped) == before:
            raise RunNotFoundError(
                f"{source} has no run of W&B. Name a directory with wandb/ in it, wandb itself, a run's directory, "
                "such as offline-run-…, or its run-ID.wandb"
            )
    return sorted(found)

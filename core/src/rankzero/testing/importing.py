"""`ImporterContract`: the tests that every importer must pass."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from rankzero.errors import RankzeroError, RunNotFoundError
from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Importer, Report, SkipRun
from rankzero.importers.event_lines import MetricsLines
from rankzero.importers.writing import Imported, OpenRuns, Outcome, import_run
from rankzero.media.store import MediaStore
from rankzero.reader.run_data import read_run
from rankzero.rundir.layout import JOURNAL

_DONE = (Outcome.NEW, Outcome.APPENDED, Outcome.UNCHANGED)
_MOST_FLIPPED = 8
_HEADER = 128  # bytes, in which formats have what the rest depends on


@dataclass
class _Source:
    """A source that was created once for all tests."""

    path: Path
    """The directory with its files."""
    argument: str
    """The argument of the importer, relative to the directory."""


class ImporterContract:
    """Subclass it with a name that begins with ``Test``, and create a source with the tool itself."""

    has_checksums: ClassVar[bool] = False
    """Whether the source has checksums, so that no damaged number is imported."""
    damaged: ClassVar[int] = 200
    """How many damaged copies of the source are imported."""

    def make_importer(self) -> Importer:
        """Return a new importer."""
        raise NotImplementedError

    def make_source(self, directory: Path) -> str:
        """Create a source with at least one run in ``directory``; return the argument of an import in ``directory``."""
        raise NotImplementedError

    def grow_source(self, directory: Path) -> None:
        """Add data to a copy of the source, as when the tool continues; by default this is not tested."""
        pytest.skip("the source does not grow")

    @pytest.fixture(scope="class")
    @classmethod
    def _original(cls, tmp_path_factory: pytest.TempPathFactory) -> _Source:
        directory = tmp_path_factory.mktemp("source")
        return _Source(directory, cls().make_source(directory))

    @pytest.fixture
    def source(self, _original: _Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Source:
        """A copy of the source, in the working directory."""
        directory = tmp_path / "source"
        shutil.copytree(_original.path, directory, symlinks=True)
        monkeypatch.chdir(directory)
        return _Source(directory, _original.argument)

    def test_the_source_is_unchanged(self, source: _Source, tmp_path: Path) -> None:
        before = _contents(source.path)
        self._import(source, tmp_path / "runs")
        assert _contents(source.path) == before

    def test_an_import_is_complete_and_the_same_each_time(self, source: _Source, tmp_path: Path) -> None:
        first, second = (self._import(source, tmp_path / name) for name in ("runs", "again"))
        assert first, "make_source must make at least one run"
        assert all(each.outcome is Outcome.NEW for each in first)
        assert [_events(each) for each in first] == [_events(each) for each in second]
        assert any(read_run(each.info.dir).metrics for each in first), "make_source must log metrics"

    def test_a_second_import_adds_nothing(self, source: _Source, tmp_path: Path) -> None:
        first = self._import(source, tmp_path / "runs")
        journals = [Path(each.info.dir, JOURNAL).read_bytes() for each in first]
        second = self._import(source, tmp_path / "runs")
        assert [each.outcome for each in second] == [Outcome.UNCHANGED] * len(first)
        assert [Path(each.info.dir, JOURNAL).read_bytes() for each in second] == journals

    def test_a_dry_run_counts_and_writes_nothing(self, source: _Source, tmp_path: Path) -> None:
        expected = self._import(source, tmp_path / "runs")
        counted = self._import(source, tmp_path / "dry", dry_run=True)
        assert [(each.values, each.files) for each in counted] == [(each.values, each.files) for each in expected]
        assert not (tmp_path / "dry").exists()

    def test_a_source_that_grew_adds_only_what_is_new(self, source: _Source, tmp_path: Path) -> None:
        before = {each.info.id: _events(each) for each in self._import(source, tmp_path / "runs")}
        self.grow_source(source.path)
        grown = self._import(source, tmp_path / "runs")
        assert Outcome.APPENDED in [each.outcome for each in grown]
        for each, whole in zip(grown, self._import(source, tmp_path / "whole"), strict=True):
            assert each.outcome in _DONE
            old = before.get(each.info.id, [])
            assert _events(each)[: len(old)] == old
            assert _points(each) == _points(whole)
            assert read_run(each.info.dir).params == read_run(whole.info.dir).params

    def test_a_run_can_be_followed(self, source: _Source, tmp_path: Path) -> None:
        open_runs = OpenRuns()
        first = self._import(source, tmp_path / "runs", open_runs=open_runs)
        assert not any(b'"type":"finish"' in Path(each.info.dir, JOURNAL).read_bytes() for each in first)
        self.grow_source(source.path)
        self._import(source, tmp_path / "runs", open_runs=open_runs)
        open_runs.close()
        whole = self._import(source, tmp_path / "whole")
        again = self._import(source, tmp_path / "runs")
        assert all(each.outcome is Outcome.UNCHANGED for each in again)
        assert [_points(each) for each in again] == [_points(each) for each in whole]
        assert [read_run(each.info.dir).status for each in again] == [read_run(each.info.dir).status for each in whole]

    def test_an_import_that_is_killed_leaves_no_run(self, source: _Source, tmp_path: Path) -> None:
        for found in self.make_importer().find([source.argument]):
            with pytest.raises((KeyboardInterrupt, SkipRun)):
                import_run(_Killed(found), tmp_path / "runs", "project")
        assert not list((tmp_path / "runs").rglob(JOURNAL))
        expected = [_events(each) for each in self._import(source, tmp_path / "whole")]
        assert [_events(each) for each in self._import(source, tmp_path / "runs")] == expected

    @pytest.mark.slow
    def test_a_damaged_source_gives_what_is_undamaged(self, source: _Source, in_memory: Path) -> None:
        self._import_damaged(source, in_memory, self.damaged)

    def test_a_slightly_damaged_source_is_imported(self, source: _Source, in_memory: Path) -> None:
        self._import_damaged(source, in_memory, 25)

    @pytest.fixture
    def in_memory(self, tmp_path: Path) -> Iterator[Path]:
        """A directory for hundreds of runs, in memory if possible, because a disk would take most of the time."""
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
            yield Path(directory)

    def _import_damaged(self, source: _Source, directory: Path, times: int) -> None:
        known = Counter[object]()
        for each in self._import(source, directory / "whole"):
            known |= _points(each)
        sizes = {path: path.stat().st_size for path in sorted(source.path.rglob("*")) if path.is_file()}
        weights = [size**0.5 for size in sizes.values()]  # more often where more is, and small files are not forgotten
        arrived = 0
        for seed in range(times):
            chance = random.Random(seed)
            (path,) = chance.choices([*sizes], weights)
            undamaged = path.read_bytes()
            path.write_bytes(_damaged(undamaged, chance))
            try:
                imported = self._import(source, directory / "damaged")
            except Exception as error:
                raise AssertionError(f"{path.relative_to(source.path)}, seed {seed}: {error!r}") from error
            for each in imported:
                points = _points(each)
                arrived += points.total()
                if self.has_checksums:
                    assert not points - known, f"{path.relative_to(source.path)}, seed {seed}: damaged numbers"
            path.write_bytes(undamaged)
            shutil.rmtree(directory / "damaged", ignore_errors=True)
        assert arrived, "no damaged source was imported"

    def _import(
        self, source: _Source, runs_dir: Path, *, dry_run: bool = False, open_runs: OpenRuns | None = None
    ) -> list[Imported]:
        """Import all runs, as ``rankzero import`` does; runs that cannot be read are left out."""
        try:
            found = list(self.make_importer().find([source.argument]))
        except RunNotFoundError:
            return []
        imported = []
        for each in found:
            try:
                imported.append(import_run(each, runs_dir, "project", dry_run=dry_run, open_runs=open_runs))
            except (RankzeroError, SkipRun, OSError):
                continue
        return imported


class _Killed(FoundRun):
    """A run whose import ends after its first event."""

    def __init__(self, found: FoundRun) -> None:
        self._found = found
        self.identity = found.identity
        self.source = found.source

    def header(self) -> Header:
        return self._found.header()

    def events(self, files: MediaStore, report: Report) -> Iterator[Event | MetricsLines]:
        yield from (event for event, _ in zip(self._found.events(files, report), range(1), strict=False))
        raise KeyboardInterrupt


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """Return the data with its end missing, with a block of zeros, or with wrong bits, anywhere or in the header."""
    part = min(len(data), _HEADER) if chance.random() < 0.4 else len(data)
    at = chance.randrange(part)
    damaged = bytearray(data)
    match chance.choice(("end", "block", "bits")):
        case "end":
            del damaged[at:]
        case "block":
            size = min(chance.randint(1, len(data) // 4 + 1), len(data) - at)
            damaged[at : at + size] = bytes(size)
        case "bits":
            for _ in range(chance.randint(1, _MOST_FLIPPED)):
                damaged[chance.randrange(part)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _contents(directory: Path) -> dict[str, tuple[str, int]]:
    """Return path → hash and time of change, for all files."""
    return {
        str(path.relative_to(directory)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def _events(imported: Imported) -> Sequence[bytes]:
    """Return the lines of the journal, without the starts and ends of the run."""
    lines = Path(imported.info.dir, JOURNAL).read_bytes().splitlines()
    return [line for line in lines if not line.startswith((b'{"type":"start"', b'{"type":"finish"'))]


def _points(imported: Imported) -> Counter[object]:
    """Return the counts of each (metric, step, time, value) of a run."""
    metrics = read_run(imported.info.dir).metrics
    return Counter(
        (name, *map(repr, point))
        for name, series in metrics.items()
        for point in zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True)
    )

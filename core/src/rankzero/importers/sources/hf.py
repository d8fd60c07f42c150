"""Import trainings of Hugging Face's Trainer from the ``trainer_state.json`` of their checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rankzero.errors import RunError
from rankzero.events.structs import Event, Metrics, Params, Text
from rankzero.files.writing import open_regular
from rankzero.importers.base import FoundRun, Header, Importer, Report, SkippedSource, SkipRun
from rankzero.importers.sources.columns import to_step
from rankzero.importers.sources.finding import digest_of, find_all, identity_of
from rankzero.importers.sources.params import read_params
from rankzero.media.store import MediaStore
from rankzero.values import to_jsonable, to_text

_STATE = "trainer_state.json"
_PICKLE = "training_args.bin"
_CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_PARAMS = (
    "num_train_epochs", "max_steps", "train_batch_size", "logging_steps", "eval_steps", "save_steps", "total_flos",
    "trial_name", "trial_params", "best_metric", "best_global_step", "best_model_checkpoint",
)  # fmt: skip


class HfImporter(Importer):
    """Imports a run from each directory with checkpoints."""

    summary: ClassVar[str] = "output directories of Hugging Face's Trainer: the log in its checkpoints"

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found, skipped = find_all(
            sources, lambda path: path.name == _STATE, f"{_STATE}; name the output_dir of a training, or one above it"
        )
        trainings: dict[Path, list[Path]] = {}
        for path in found:
            directory = path.parent
            top = directory.parent if _CHECKPOINT.fullmatch(directory.name) else directory
            trainings.setdefault(top, []).append(path)
        for top, paths in trainings.items():
            try:
                yield TrainerRun(top, paths)
            except (OSError, RunError, SkipRun) as error:
                yield SkippedSource(top, error)
        yield from skipped


class _State(NamedTuple):
    path: Path
    modified: float
    values: dict[str, Any]
    log: list[dict[str, Any]]

    @property
    def progress(self) -> tuple[int, int]:
        return to_step(self.values.get("global_step")) or 0, len(self.log)


class TrainerRun(FoundRun):
    """A training. The log of its last checkpoint contains the logs of the checkpoints from which it was resumed.

    Raises:
        RunError: no file can be read.
        SkipRun: nothing was logged.
    """

    def __init__(self, directory: Path, paths: Sequence[Path]) -> None:
        self._directory, self._paths = directory, paths
        states = [state for state in map(_read, paths) if state is not None]
        if not states:
            raise RunError(f"{', '.join(map(str, paths))}: it is damaged")
        self._last = max(states, key=lambda state: state.progress)
        if not self._last.log:
            raise SkipRun("nothing was logged")
        self._imported = 0
        self._known_params = ""
        self.source = str(directory)
        self.size = sum(path.stat().st_size for path in paths)
        self.identity = identity_of(directory, self._last.log[0])

    def resume(self, position: Any) -> bool:
        count: int = position["entries"]
        if len(self._last.log) < count or digest_of(self._last.log[:count]) != position["log"]:
            return False
        self._imported, self._known_params = count, position["params"]
        return True

    def header(self) -> Header:
        return Header(name=self._directory.name)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        log = self._last.log
        times = self._times(report)
        params = self._params(report)
        if digest_of(params) != self._known_params:
            yield Params(times[0], params)
        for entry, time in islice(zip(log, times, strict=True), self._imported, None):
            yield from _events(entry, time)
        self.position = {"entries": len(log), "log": digest_of(log), "params": digest_of(params)}

    def _times(self, report: Report) -> list[float]:
        """Return the time of each entry of the log: that of the first checkpoint that contains it."""
        log, written = self._last.log, {len(self._last.log): self._last.modified}
        for path in self._paths:
            state = _read(path)
            name = path.relative_to(self._directory).as_posix()
            if state is None:
                report.leave_out(name, "it is damaged")
            elif json.dumps(state.log) == json.dumps(log[: len(state.log)]):
                written[len(state.log)] = min(written.get(len(state.log), state.modified), state.modified)
            else:
                superseded = len(set(map(json.dumps, state.log)) - set(map(json.dumps, log)))
                report.leave_out(
                    f"entries of {name}", "the training was resumed from an earlier checkpoint", superseded
                )
            report.progress(path.stat().st_size)
        times: list[float] = []
        for count in sorted(written):
            times += [written[count]] * (count - len(times))
        return times

    def _params(self, report: Report) -> dict[str, Any]:
        """Return the model's config, and the arguments of the training in the state."""
        directories = [self._last.path.parent, *(path.parent for path in reversed(self._paths))]
        with_model = next((each for each in directories if (each / _CONFIG).exists()), directories[0])
        params = read_params(with_model, [_CONFIG], report)
        if adapter := read_params(with_model, [_ADAPTER], report):
            params["peft_config"] = {"default": adapter}
        if not self._imported and any((each / _PICKLE).exists() for each in directories):
            report.leave_out(_PICKLE, "it is a pickle, which could execute code, so it is not opened")
        state = {name: self._last.values.get(name) for name in _PARAMS}
        params.update(to_jsonable({name: value for name, value in state.items() if value is not None}))
        return params


def _events(entry: dict[str, Any], time: float) -> Iterator[Event]:
    """Yield the events of an entry of the log, with the names of Transformers' own integrations."""
    numbers: dict[str, Any] = {}
    step = to_step(entry.get("step"))
    for key, value in entry.items():
        stage = next((stage for stage in ("eval", "test") if key.startswith(f"{stage}_")), "train")
        name = f"{stage}/{key.removeprefix(f'{stage}_') if stage != 'train' else key}"
        if isinstance(value, int | float):
            if key != "step":
                numbers[name] = value
        elif value is not None:
            yield Text(time, name, ["value"], [[to_text(value)]], step)
    if numbers:
        yield Metrics(time, step, numbers)


def _read(path: Path) -> _State | None:
    """Return the content of a file; None if it is damaged."""
    try:
        with open_regular(path) as file:
            values = json.loads(file.read())
        log = values["log_history"]
        if all(isinstance(entry, dict) for entry in log):
            return _State(path, path.stat().st_mtime, values, log)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None

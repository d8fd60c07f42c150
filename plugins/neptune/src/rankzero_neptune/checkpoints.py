"""Checkpoints in a Neptune run: upload, aliases, and deletion of superseded ones.

``model/checkpoints/NAME`` is the file, ``model/checkpoint_details/NAME`` its details as JSON, and
``model/aliases/ALIAS`` the name of the checkpoint with this alias.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rankzero.events.structs import Checkpoint
from rankzero.values import to_jsonable
from rankzero_neptune.fields import joined, named

if TYPE_CHECKING:
    from rankzero_neptune.session import NeptuneSession

_BEST = "best"
_LATEST = "latest"
_CALLBACK = (
    "monitor", "mode", "save_top_k", "save_last", "every_n_train_steps", "save_weights_only",
    "dirpath", "every_n_epochs",
)  # fmt: skip


class Details(msgspec.Struct):
    """The details of a checkpoint."""

    file: str
    """The name of its file or directory."""
    source: str = ""
    """Its path, unless it is a snapshot."""
    score: float | None = None
    step: int | None = None
    aliases: list[str] = []
    metadata: dict[str, Any] = {}


class Checkpoints:
    """The checkpoints of one run.

    Args:
        session: writes to the run.
        namespace: the namespace of all fields, ``training/model``.
        has_snapshots: whether the files are snapshots, whose paths do not identify a checkpoint.
    """

    def __init__(self, session: NeptuneSession, namespace: str, *, has_snapshots: bool) -> None:
        self._session = session
        self._namespace = namespace
        self._has_snapshots = has_snapshots
        self._known: dict[str, Details] | None = None

    def write(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint, a file or directory, and delete those that it supersedes."""
        if self._known is None:
            self._known = self._read_details()
        known, score = self._known, to_jsonable(checkpoint.score)
        details = Details(
            Path(checkpoint.path).name,
            source="" if self._has_snapshots else os.path.abspath(checkpoint.path),
            score=None if score is None or isinstance(score, str) else float(score),
            step=checkpoint.step,
            aliases=checkpoint.aliases,
            metadata=checkpoint.metadata,
        )
        name = name_for(details, known)
        self._session.upload_all(self._path("checkpoints", name), checkpoint.path)
        for other, each in known.items():
            kept = [alias for alias in each.aliases if alias not in details.aliases]
            if other != name and kept != each.aliases and _callback(each) == _callback(details):
                each.aliases = kept
                self._describe(other, each)
        known[name] = details
        self._describe(name, details)
        self._assign_aliases(name, details)
        for superseded in superseded_by(name, known):
            del known[superseded]
            self._session.delete(self._path("checkpoints", superseded))
            self._session.delete(self._path("checkpoint_details", superseded))

    def _describe(self, name: str, details: Details) -> None:
        self._session.assign(self._path("checkpoint_details", name), msgspec.json.encode(details).decode())

    def _assign_aliases(self, name: str, details: Details) -> None:
        for alias in details.aliases:
            self._session.assign(named(self._path("aliases"), alias), name)
        if _BEST in details.aliases:
            self._session.assign(self._path("best_model_path"), details.file)
            if details.score is not None:
                self._session.assign(self._path("best_model_score"), details.score)

    def read(self, alias: str, directory: Path) -> Path:
        """Download the checkpoint with an alias into a directory, and return its path.

        Raises:
            LookupError: no checkpoint has the alias.
        """
        names = self._session.texts_below(self._path("aliases"))
        if named("", alias) not in names:
            aliases = ", ".join(sorted(names)) or "none"
            raise LookupError(f"no checkpoint of the run has the alias {alias!r}; there are: {aliases}")
        name = names[named("", alias)]
        stored = self._path("checkpoints", name)
        local = directory / self._read_details()[name].file
        for path in self._session.paths_at(stored):
            destination = local / path.removeprefix(stored).lstrip("/")
            destination.parent.mkdir(parents=True, exist_ok=True)
            self._session.download(path, str(destination))
        return local

    def _read_details(self) -> dict[str, Details]:
        texts = self._session.texts_below(self._path("checkpoint_details"))
        return {name: msgspec.json.decode(text, type=Details) for name, text in texts.items()}

    def _path(self, *parts: str) -> str:
        return joined(self._namespace, *parts)


def superseded_by(newest: str, known: Mapping[str, Details]) -> list[str]:
    """Return the names of the checkpoints that a ModelCheckpoint has deleted after saving the newest.

    It keeps the ``save_top_k`` best by score, or without a score only the latest and the best. Checkpoints with an
    alias, and those of no ModelCheckpoint, are kept.
    """
    most, monitor = known[newest].metadata.get("save_top_k"), known[newest].metadata.get("monitor")
    if not isinstance(most, int) or most < 1:
        return []
    saved = {name: each for name, each in known.items() if _callback(each) == _callback(known[newest])}
    if monitor is None:
        superseded = list(saved)
    else:
        # Count different scores, because "last" has the score of another checkpoint.
        is_max = known[newest].metadata.get("mode") == "max"
        scores = sorted({each.score for each in saved.values() if each.score is not None}, reverse=is_max)
        worse = set(scores[most:])
        superseded = [name for name, each in saved.items() if each.score in worse]
    return [name for name in superseded if name != newest and not saved[name].aliases]


def _callback(details: Details) -> Sequence[Any]:
    """Return values that identify the ModelCheckpoint of a checkpoint."""
    return [details.metadata.get(name) for name in _CALLBACK]


def name_for(details: Details, known: Mapping[str, Details]) -> str:
    """Return the name of a checkpoint in Neptune: its file's name, with a number if another checkpoint has it."""
    stem, suffix = os.path.splitext(details.file)
    names = (f"{stem}_{number}{suffix}" if number > 1 else details.file for number in count(1))
    return next(name for name in names if name not in known or _replaces(details, known[name]))


def _replaces(new: Details, old: Details) -> bool:
    """Return whether a checkpoint overwrites an older one with the same name."""
    if not set(old.aliases) <= {*new.aliases, _LATEST}:
        return False  # the older one still has an alias
    # The path of a snapshot's original is unknown.
    return new.source == old.source if new.source and old.source else _callback(new) == _callback(old)

"""Checkpoints in a Neptune run: where they are, which is the latest and the best, and which are superseded.

``model/checkpoints/NAME`` holds the file, ``model/checkpoint_details/NAME`` what is known of it, as JSON, and
``model/aliases/ALIAS`` the name of the one that has an alias.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from rankzero.values import to_jsonable
from rankzero_neptune.paths import joined, named
from rankzero_neptune.session import Session

_BEST = "best"
_LATEST = "latest"
_GROUP = (
    "monitor", "mode", "save_top_k", "save_last", "every_n_train_steps", "save_weights_only",
    "dirpath", "every_n_epochs",
)  # fmt: skip


class Details(msgspec.Struct):
    """What is known of a checkpoint."""

    file: str
    """The name of its file or directory."""
    source: str = ""
    """Where that is, if it is not a copy."""
    score: float | None = None
    step: int | None = None
    aliases: list[str] = []
    metadata: dict[str, Any] = {}


class Checkpoints:
    """The checkpoints of one run.

    Args:
        session: writes to the run.
        namespace: what all their paths begin with, ``training/model``.
    """

    def __init__(self, session: Session, namespace: str) -> None:
        self._session = session
        self._namespace = namespace
        self._known: dict[str, Details] = {}
        self._opening = 0  # of the session, for which they are known

    def log(self, path: str, details: Details) -> None:
        """Keep a checkpoint, a file or a directory, and delete what it supersedes.

        Args:
            path: where it is.
            details: what is known of it.
        """
        known = self._load()
        name = name_for(details, known)
        upload(self._session, path, self._path("checkpoints", name))
        for other, each in known.items():
            held = [alias for alias in each.aliases if alias not in details.aliases]
            if other != name and held != each.aliases and _group(each) == _group(details):
                each.aliases = held
                self._describe(other, each)
        known[name] = details
        self._note(name, details)
        for superseded in superseded_by(name, known):
            del known[superseded]
            self._session.delete(self._path("checkpoints", superseded))
            self._session.delete(self._path("checkpoint_details", superseded))

    def _describe(self, name: str, details: Details) -> None:
        self._session.assign(self._path("checkpoint_details", name), msgspec.json.encode(to_jsonable(details)).decode())

    def _note(self, name: str, details: Details) -> None:
        self._describe(name, details)
        for alias in details.aliases:
            self._session.assign(named(self._path("aliases"), alias), name)
        if _BEST in details.aliases:
            self._session.assign(self._path("best_model_path"), details.file)
            if details.score is not None:
                self._session.assign(self._path("best_model_score"), float(details.score))

    def _load(self) -> dict[str, Details]:
        if self._opening != self._session.opening or not self._opening:
            texts = self._session.texts_below(self._path("checkpoint_details"))
            self._known = {name: msgspec.json.decode(text, type=Details) for name, text in texts.items()}
            self._opening = self._session.opening
        return self._known

    def _path(self, *parts: str) -> str:
        return joined(self._namespace, *parts)

    def download(self, alias: str, directory: str | os.PathLike[str] | None) -> str:
        """Return the path of a local copy of the checkpoint that has an alias.

        Args:
            alias: ``best``, ``latest``, or one that it was logged with.
            directory: where to put it; a new temporary directory if None.

        Raises:
            LookupError: no checkpoint has this alias.
        """
        self._session.wait()
        names = self._session.texts_below(self._path("aliases"))
        if named("", alias) not in names:
            known = ", ".join(sorted(names)) or "none"
            raise LookupError(f"no checkpoint of the run has the alias {alias!r}; there are: {known}")
        name = names[named("", alias)]
        target = Path(directory or tempfile.mkdtemp(prefix="rankzero-neptune-"))
        held = self._path("checkpoints", name)
        texts = self._session.texts_below(self._path("checkpoint_details"))
        local = target / msgspec.json.decode(texts[name], type=Details).file
        for path in self._session.files_below(held):
            destination = local / path.removeprefix(held).lstrip("/")
            destination.parent.mkdir(parents=True, exist_ok=True)
            self._session.download(path, str(destination))
        return str(local)


def upload(session: Session, source: str, path: str) -> None:
    """Keep a file under a path, or each file of a directory below it."""
    if not os.path.isdir(source):
        session.upload(path, source)
        return
    files = {joined(path, each.relative_to(source).as_posix()): each for each in Path(source).rglob("*")}
    files = {there: each for there, each in files.items() if each.is_file()}
    session.keep_only(path, files)
    for there, each in sorted(files.items()):
        session.upload(there, str(each))


def superseded_by(newest: str, known: Mapping[str, Details]) -> list[str]:
    """Return which checkpoints a ModelCheckpoint has deleted by the time that it saved the newest.

    It keeps the ``save_top_k`` best of those with a score; without one, only what is latest or best. A checkpoint
    that no ModelCheckpoint has saved stays, and so does one that has an alias.

    Args:
        newest: its name.
        known: all checkpoints, by name.
    """
    most, monitor = known[newest].metadata.get("save_top_k"), known[newest].metadata.get("monitor")
    if not isinstance(most, int) or most < 1:
        return []
    group = {name: each for name, each in known.items() if _group(each) == _group(known[newest])}
    if monitor is None:
        out = list(group)
    else:
        # "last" has the score of another: different scores are counted, so that none is deleted too early.
        is_max = known[newest].metadata.get("mode") == "max"
        scores = sorted({each.score for each in group.values() if each.score is not None}, reverse=is_max)
        worse = set(scores[most:])
        out = [name for name, each in group.items() if each.score in worse]
    return [name for name in out if name != newest and not group[name].aliases]


def _group(details: Details) -> Sequence[Any]:
    """Return what tells the checkpoints of one ModelCheckpoint from those of another."""
    return [details.metadata.get(name) for name in _GROUP]


def name_for(details: Details, known: Mapping[str, Details]) -> str:
    """Return the name under which a checkpoint is kept: its file's, or one beside it if another one has that.

    Args:
        details: what is known of it.
        known: the checkpoints that there are, by name.
    """
    stem, suffix = os.path.splitext(details.file)
    names = (f"{stem}_{number}{suffix}" if number > 1 else details.file for number in count(1))
    return next(name for name in names if name not in known or _replaces(details, known[name]))


def _replaces(new: Details, old: Details) -> bool:
    """Return whether a checkpoint was saved in the place of one with the same name."""
    if not set(old.aliases) <= {*new.aliases, _LATEST}:
        return False  # it is still the best, or what somebody named it
    # Of a copy it is not known where it was saved.
    return new.source == old.source if new.source and old.source else _group(new) == _group(old)

"""Read the checkpoints that Lightning's ModelCheckpoint has saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rankzero.messages import OnceWarner
from rankzero.rank import rank_zero_warn, rank_zero_warn_user
from rankzero.values import to_jsonable, to_number
from rankzero.waiting import wait_until

LATE_TIMEOUT = 30.0
"""For how many seconds the end of a fit waits for a checkpoint that a thread of the framework is still writing."""

_SETTINGS = (
    "monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps", "_every_n_epochs",
    "dirpath",
)  # fmt: skip


class SavedCheckpoint(NamedTuple):
    """A checkpoint of a ModelCheckpoint on disk."""

    path: str
    score: float | None
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    may_change: bool
    """Whether the file may be overwritten in place; a file saved under a new name each time never is."""
    step: int | None = None
    """The step of the newest metrics when it was saved, if the callback knows it."""


class _Stamp(NamedTuple):
    """Changes when a file, or a file in a directory, is written again."""

    modified: int
    inode: int
    size: int


class SavedCheckpoints:
    """Finds the checkpoints that ModelCheckpoints have saved, each one once.

    A ModelCheckpoint is a Lightning one (or a weak proxy of one, or an object with the same attributes):
    ``best_k_models``, ``best_model_path``, ``last_model_path``, ``best_model_score``, ``current_score``.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Stamp] = {}
        self._steps: dict[str, int | None] = {}  # path → step at which it was saved
        self._awaited: dict[str, SavedCheckpoint] = {}
        self._savers: dict[str, Any] = {}  # awaited path → its callback
        self._looked: dict[str, _Stamp] = {}  # awaited directory → its stamp at the last check
        self._is_rewritten: dict[str, bool] = {}  # path → whether it is saved in place; unknown for most
        self._warner = OnceWarner(rank_zero_warn_user)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_savers": {}}  # weak proxies

    def after_save(self, callback: Any) -> list[SavedCheckpoint]:
        """Return the checkpoints that ``callback`` has just saved, and late ones; takes constant time."""
        found = self.late()
        if not (path := _just_saved(callback)):
            return found + self.left(callback)
        self._savers[path] = callback
        return found + self._new([_called_latest(_describe(callback, path))], awaited=path)

    def left(self, callback: Any) -> list[SavedCheckpoint]:
        """Return all checkpoints that ``callback`` keeps and that were not returned before, oldest first."""
        try:
            paths = dict.fromkeys(_paths(callback))
            newest = _just_saved(callback)
            known = [_describe(callback, path) for path in paths]
        except ReferenceError:  # a weak proxy of a deleted object
            return []
        found = self._new(known, awaited=newest)
        found.sort(key=lambda saved: self._seen[saved.path].modified)
        # `latest` is ModelCheckpoint's newest file, regardless of its name.
        return [_called_latest(saved) if saved is found[-1] else saved for saved in found]

    def late(self, timeout: float = 0.0) -> list[SavedCheckpoint]:
        """Return checkpoints that were announced earlier and are complete now: a thread of Lightning may write them.

        Those that their callback has deleted before they were found are not waited for.

        Args:
            timeout: for how many seconds to wait for missing ones.
        """
        found: list[SavedCheckpoint] = []

        def is_all_there() -> bool:
            there = self._new(self._awaited.values())
            for saved in there:
                del self._awaited[saved.path]
            found.extend(there)
            return all(map(self._is_deleted, self._awaited))

        is_complete = wait_until(is_all_there, timeout)
        if timeout and self._awaited:
            if not is_complete:
                missing = ", ".join(path for path in self._awaited if not self._is_deleted(path))
                rank_zero_warn(
                    f"a ModelCheckpoint has announced {missing}, which does not exist after {timeout:.0f} s: not logged"
                )
            self._awaited.clear()
        if not self._awaited:
            self._savers.clear()
        return found

    def _is_deleted(self, path: str) -> bool:
        """Return whether a callback keeps an awaited checkpoint no longer, and a later one of it was found.

        A thread of Lightning writes checkpoints one after the other: if the later one is there, this one was, too.
        """
        callback = self._savers.get(path)
        try:
            is_kept = getattr(callback, "save_top_k", -1) == -1 or path in _paths(callback)
            return not is_kept and _just_saved(callback) in self._seen
        except ReferenceError:  # a weak proxy of a deleted object
            return False

    def _new(self, known: Iterable[SavedCheckpoint], *, awaited: str = "") -> list[SavedCheckpoint]:
        found = []
        for saved in known:
            if "://" in saved.path:
                protocol = saved.path.partition("://")[0]
                self._warner.warn(
                    protocol, f"checkpoints that are saved to {protocol}:// are on no disk of this machine: not logged"
                )
                continue
            stamp, before = _stamp(saved.path), self._seen.get(saved.path)
            if stamp is not None and stamp != before and self._is_whole(saved.path, stamp):
                self._seen[saved.path], self._steps[saved.path] = stamp, saved.step
                if before is not None:
                    self._is_rewritten[saved.path] = stamp.inode == before.inode
                found.append(saved._replace(may_change=self._is_rewritten.get(saved.path, saved.may_change)))
            elif saved.path == awaited and (stamp is None or saved.step != self._steps.get(saved.path)):
                self._awaited[saved.path] = saved  # otherwise the same save was announced twice
        return found

    def _is_whole(self, path: str, stamp: _Stamp) -> bool:
        """Return whether the checkpoint seems complete."""
        if path not in self._awaited or not os.path.isdir(path):
            return True
        before = self._looked.pop(path, None)
        if before != stamp:  # a thread of the framework may still write to the directory: check again later
            self._looked[path] = stamp
        return before == stamp


def _just_saved(callback: Any) -> str:
    # Lightning's own field; without it, all checkpoints of the callback must be checked.
    return str(getattr(callback, "_last_checkpoint_saved", None) or "")


def _paths(callback: Any) -> Iterator[str]:
    yield from getattr(callback, "best_k_models", None) or ()
    for name in ("last_model_path", "best_model_path", "_last_checkpoint_saved"):
        if path := getattr(callback, name, None):
            yield str(path)


def _describe(callback: Any, path: str) -> SavedCheckpoint:
    last, best = (str(getattr(callback, f"{name}_model_path", None) or "") for name in ("last", "best"))
    score = (getattr(callback, "best_k_models", None) or {}).get(path)
    if score is None and path == last:
        score = getattr(callback, "current_score", None)
    if score is None and path == best:
        score = getattr(callback, "best_model_score", None)
    metadata = {name.lstrip("_"): to_jsonable(getattr(callback, name)) for name in _SETTINGS if hasattr(callback, name)}
    aliases = ("best",) if path == best else ()
    steps = getattr(callback, "_last_global_step_saved", None) if path == _just_saved(callback) else None
    has_fixed_name = not getattr(callback, "_enable_version_counter", True)
    return SavedCheckpoint(
        path,
        to_number(score),
        aliases,
        metadata,
        may_change=path == last or has_fixed_name,
        step=steps - 1 if steps else None,
    )


def _called_latest(saved: SavedCheckpoint) -> SavedCheckpoint:
    return saved._replace(aliases=(*saved.aliases, "latest"))


def _stamp(path: str) -> _Stamp | None:
    try:
        found = [os.stat(each) for each in (path, *_files_in(path))]
    except OSError:
        return None
    return _Stamp(max(each.st_mtime_ns for each in found), found[0].st_ino, sum(each.st_size for each in found))


def _files_in(path: str) -> Iterator[str]:
    for directory, _, files in os.walk(path):  # yields nothing for a file
        yield from (os.path.join(directory, file) for file in files)

"""What a ModelCheckpoint has saved."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from rankzero.values import to_jsonable, to_number

_SETTINGS = (
    "monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps", "_every_n_epochs",
    "dirpath",
)  # fmt: skip


class SavedCheckpoint(NamedTuple):
    """One checkpoint that a ModelCheckpoint holds on disk."""

    path: str
    score: float | None
    modified: float
    aliases: tuple[str, ...]
    metadata: dict[str, Any]


def scan(callback: Any, seen: dict[str, float]) -> list[SavedCheckpoint]:
    """Return the checkpoints that ``callback`` saved since the last scan, the oldest first.

    Args:
        callback: a Lightning ModelCheckpoint (or a weak proxy of one, or an object with the same attributes):
            ``best_k_models``, ``best_model_path``, ``last_model_path``, ``best_model_score``, ``current_score``.
        seen: path → modification time of the former scans; updated.
    """
    scores: dict[str, Any] = dict(getattr(callback, "best_k_models", None) or {})
    best = str(getattr(callback, "best_model_path", "") or "")
    last = str(getattr(callback, "last_model_path", "") or "")
    if last:
        scores.setdefault(last, getattr(callback, "current_score", None))
    if best:
        scores.setdefault(best, getattr(callback, "best_model_score", None))
    metadata = {name.lstrip("_"): to_jsonable(getattr(callback, name)) for name in _SETTINGS if hasattr(callback, name)}
    found = []
    for path, score in scores.items():
        modified = _modified(path)
        if modified is None or seen.get(path, -1.0) >= modified:
            continue
        seen[path] = modified
        number = to_number(score)
        # ModelCheckpoint's newest file is what `latest` means, whatever its name.
        found.append(SavedCheckpoint(path, number, modified, ("best",) if path == best else (), metadata))
    found.sort(key=lambda each: each.modified)
    return [each._replace(aliases=(*each.aliases, "latest")) if each is found[-1] else each for each in found]


def _modified(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None

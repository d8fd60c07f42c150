"""Files and checkpoints as W&B's artifacts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_UNUSABLE = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 128
CHECKPOINT = "model.ckpt"
"""What the file of a checkpoint is called in its artifact."""


def artifact_name(name: str) -> str:
    """Return the nearest name that W&B takes: letters, digits, ``-``, ``_`` and ``.``."""
    return _UNUSABLE.sub("-", name)[:_LONGEST_NAME]


def file_artifact(path: str, name: str, kind: str, metadata: Mapping[str, Any], *, is_ours: bool) -> Any:
    """Return an artifact that holds a file or folder.

    Args:
        path: of the file or folder.
        name: of the artifact.
        kind: the artifact's type.
        metadata: what to note of it.
        is_ours: whether the file is ours: it changes no more, so that W&B's client need not copy it, and is called
            after its content, so that in the artifact it is called as that is.
    """
    if not is_ours:
        return _artifact(path, None, name, kind, metadata, "mutable")
    suffix = Path(path).suffix
    file_name = None if os.path.isdir(path) else name if name.endswith(suffix) else name + suffix
    return _artifact(path, file_name, name, kind, metadata, "immutable")


def checkpoint_artifact(path: str, name: str, metadata: Mapping[str, Any], policy: str) -> Any:
    """Return an artifact that holds a checkpoint, a file or folder, as ``model.ckpt``."""
    return _artifact(path, CHECKPOINT, name, "model", metadata, policy)


def _artifact(path: str, file_name: str | None, name: str, kind: str, metadata: Mapping[str, Any], policy: str) -> Any:
    import wandb

    artifact = wandb.Artifact(artifact_name(name), kind, metadata=dict(metadata))
    is_ours = policy == "immutable"
    if os.path.isdir(path):
        artifact.add_dir(path, name=file_name, skip_cache=is_ours, policy=policy)
    else:
        artifact.add_file(path, name=file_name or Path(path).name, skip_cache=is_ours, policy=policy)
    return artifact


def without_latest(aliases: Sequence[str]) -> list[str]:
    """Return aliases without that which W&B gives each new version by itself."""
    return [alias for alias in aliases if alias != "latest"]

"""Translate artifacts whose files are on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rankzero.events.structs import Artifact, Checkpoint, Event
from rankzero.importers.base import Report
from rankzero_wandb.importing.files import RunFiles, artifact_file


def artifact_events(artifact: Any, time: float, files: RunFiles, report: Report, is_ours: bool) -> Iterator[Event]:
    """Yield the event of an artifact.

    Args:
        artifact: the client's record.
        time: the time of the event.
        files: the files of the run.
        report: records the files that cannot be imported.
        is_ours: whether rankzero's logger wrote it; the logger makes an artifact for each file and checkpoint.
    """
    stored, references = {}, {}
    for entry in artifact.manifest.contents:
        if entry.ref:
            references[entry.path] = entry.ref
            continue
        try:
            stored[entry.path] = files.store.put_file(artifact_file(entry))
        except (OSError, ValueError) as error:
            files.leave_out(f"{artifact.name}/{entry.path}", error)
    if artifact.manifest.manifest_file_path:
        report.leave_out(artifact.name, "the list of its files is in a temporary file of the client")
    metadata = json.loads(artifact.metadata or "{}")
    if artifact.description:
        metadata["description"] = artifact.description
    if references:
        metadata["references"] = references
        if not stored:
            stored["references.json"] = files.store.put_bytes((json.dumps(references).encode(), ".json"))
    aliases = [alias for alias in artifact.aliases if alias != "latest"]  # each artifact in W&B has it
    if not stored:
        return
    path = next(iter(stored.values())).path if is_ours and len(stored) == 1 else files.store.put_directory(stored)
    name = metadata.pop("name", artifact.name) if is_ours else artifact.name
    if is_ours and "original_filename" in metadata:
        score, step = metadata.pop("score", None), metadata.pop("step", None)
        yield Checkpoint(time, path, score=score, step=step, aliases=aliases, metadata=metadata)
    else:
        yield Artifact(time, path, name, artifact.type or None, aliases, metadata)

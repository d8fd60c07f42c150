"""Write media, artifacts, checkpoints and tags to an MLflow run.

==========================================  ====================================================
``images/``                                 pictures, in the layout of MLflow's image grid
``tables/KEY/``, ``texts/KEY/``, …          one file for each call: ``step-STEP-LINE.json``
``captions/KEY/``                           the captions of pictures, sounds and videos
``checkpoints/NAME/``                       a checkpoint, with ``metadata.json``
==========================================  ====================================================

LINE is the event's line in the journal, so that a file that is delivered again replaces itself; in direct use it is the
time in microseconds.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rankzero.events.run_info import LogContext
from rankzero.events.structs import Artifact, Checkpoint
from rankzero.files.directories import files_in
from rankzero.loggers.adapter import Session, TrackerLogger, Unsupported, plain_rows
from rankzero.media.encoders import encode_image
from rankzero.media.record import Media
from rankzero.media.store import MediaFile
from rankzero.values import to_jsonable
from rankzero_mlflow.client import LONGEST_TAG, AlreadyThereError, CheckedClient, image_name, metric_name, path_name

T = TypeVar("T")

CHECKPOINT_TAG = "rankzero.checkpoint."
"""The tag ``rankzero.checkpoint.best`` contains the path of the checkpoint with that alias."""

CELLS = "tables/media/"
"""The folder of the pictures in tables."""

MAX_TAGS = 100  # in a request
_MAX_PENDING = 1000  # unfinished asynchronous requests
_FOLDERS = {"audio": "audio", "video": "videos", "figure": "figures", "pointcloud": "pointclouds"}
_TABLES_TAG = "mlflow.loggedArtifacts"  # the JSON files that MLflow shows as tables
_LONGEST_TABLES_TAG = 4000  # characters
_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]+", re.IGNORECASE)  # "latest" and "v1" are reserved


class FileSession(Session):
    """Writes the files of a run, and its tags.

    Args:
        client: the client.
        run: MLflow's ``Run``, just read.
        logger: its logger.
    """

    def __init__(self, client: CheckedClient, run: Any, logger: TrackerLogger) -> None:
        self.client = client
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self._artifact_uri: str = run.info.artifact_uri
        self._options: Any = logger.options
        self._is_synchronous = logger.run_info is not None or self._options["synchronous"]
        self._operations: deque[Any] = deque()
        self.warner = logger.warner
        self._has_images = False
        self._tables: list[dict[str, str]] | None = None

    # Tags

    def write_tags(self, tags: Sequence[str], context: LogContext) -> None:
        self.set_tags({metric_name(tag): "true" for tag in tags})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, which have valid names; the whole of a long value is stored as an artifact, too."""
        from mlflow.entities import RunTag

        for key, value in tags.items():
            if len(value) > LONGEST_TAG:
                self.write_whole("tag", key, value, "it is long")
        for batch in batches(tags.items(), MAX_TAGS):
            self.send(tags=[RunTag(key, value[:LONGEST_TAG]) for key, value in batch])

    def write_whole(self, kind: str, name: str, value: str, reason: str) -> None:
        """Store the whole value of a param or tag as an artifact."""
        path = f"{kind}s/{path_name(name)}.txt"
        self.warner.warn(f"the {kind} {name!r} is whole in the artifact {path}: {reason}")
        self.client.log_text(self.id, value, path)

    def send(self, **batch: Sequence[Any]) -> None:
        """Send metrics, params or tags in one request."""
        sent = self.client.log_batch(self.id, synchronous=self._is_synchronous, **batch)
        if sent is not None:
            self._operations.append(sent)
            if len(self._operations) > _MAX_PENDING:
                self._operations.popleft().wait()

    def flush(self) -> None:
        while self._operations:
            self._operations.popleft().wait()

    # Media

    def write_media(self, media: Media, context: LogContext) -> None:
        name = f"{path_name(media.key)}/{_file_name(media, context)}"
        match media.kind:
            case "image":
                self._write_captions(name, self._write_images(media, context))
            case "audio" | "video" | "figure" | "pointcloud":
                self._write_captions(name, self._write_files(media, f"{_FOLDERS[media.kind]}/{name}"))
            case "table" | "text":
                self._write_table(media, f"{media.kind}s/{name}")
            case "histogram":
                self._write_json(f"histograms/{name}.json", media.histogram())
            case "graph":
                self._write_graph(media.items)
            case _:
                raise Unsupported

    def _write_images(self, media: Media, context: LogContext) -> list[MediaFile]:
        """Add pictures to the image grid; a picture that MLflow cannot show becomes a file."""
        files = media.files()
        for index, file in enumerate(files):
            key = media.key if len(files) == 1 else f"{media.key}/{index}"
            picture = _read_picture(file)
            if picture is None:
                self._upload(file, f"images/{path_name(key)}/{_file_name(media, context)}{Path(file.path).suffix}")
                continue
            unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{_number(context)} {Path(file.path).name}")
            shown = f"{image_name(key).replace('/', '~')}+step+{media.step or 0}"
            self._add_to_grid(f"{shown}+timestamp+{round(context.time * 1000)}+{unique}", file, picture)
        return files

    def _add_to_grid(self, name: str, file: MediaFile, picture: Any) -> None:
        """Do the same as ``MlflowClient.log_image``, with a file name that is the same on every delivery."""
        from mlflow.tracking.multimedia import compress_image_size
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        with tempfile.TemporaryDirectory() as folder:
            whole, small = Path(folder, f"{name}.png"), Path(folder, f"{name}+compressed.webp")
            if picture.format == "PNG":
                shutil.copyfile(file.path, whole)
            else:
                whole.write_bytes(encode_image(picture)[0])
            compress_image_size(_with_bytes(picture)).save(small)
            for each in (whole, small):
                self.client.log_artifact(self.id, str(each), "images")
        if not self._has_images:
            self.set_tags({MLFLOW_LOGGED_IMAGES: "True"})
            self._has_images = True

    def _write_files(self, media: Media, name: str) -> list[MediaFile]:
        files = media.files()
        for index, file in enumerate(files):
            self._upload(file, f"{name}{f'-{index}' if len(files) > 1 else ''}{Path(file.path).suffix}")
        return files

    def _write_captions(self, name: str, files: Sequence[MediaFile]) -> None:
        captions = [file.caption for file in files]
        if any(captions):
            self._write_json(f"captions/{name}.json", captions)

    def _write_table(self, media: Media, name: str) -> None:
        """Write a table in the form that ``mlflow.load_table`` reads, and a single text as a text file."""
        if (text := media.only_text()) is not None:
            self.client.log_text(self.id, text, f"{name}.txt")
            return
        columns, rows = plain_rows(media, self._write_cell)
        entry = {"path": f"{name}.json", "type": "table"}
        self._write_json(entry["path"], {"columns": columns, "data": rows})
        if self._tables is None:
            self._tables = json.loads(self.client.get_run(self.id).data.tags.get(_TABLES_TAG, "[]"))
        if entry not in self._tables:
            tables = [*self._tables, entry]
            while len(json.dumps(tables)) > _LONGEST_TABLES_TAG:  # MLflow shows the oldest as JSON
                del tables[0]
            self.set_tags({_TABLES_TAG: json.dumps(tables)})
            self._tables = tables

    def _write_cell(self, picture: MediaFile, row: int, column: int) -> Any:
        path = f"{CELLS}{Path(picture.path).name}"
        self._upload(picture, path)
        return {"type": "image", "filepath": path, "compressed_filepath": path}

    def _write_graph(self, model: Any) -> None:
        """Write a model's structure as JSON, and as printed by torch."""
        if not isinstance(model, MediaFile):  # a model in direct use, which frameworks pass by themselves
            return
        graph = json.loads(Path(model.path).read_bytes())
        self.client.log_text(self.id, str(graph.get("text", "")), "graph/model.txt")
        self._write_json("graph/model.json", graph)

    def _write_json(self, path: str, value: Any) -> None:
        self.client.log_text(self.id, msgspec.json.encode(value).decode(), path)

    # Files and checkpoints

    def write_artifact(self, artifact: Artifact, context: LogContext) -> None:
        suffix = "" if os.path.isdir(artifact.path) else Path(artifact.path).suffix
        self._upload(artifact.path, path_name(artifact.name.removesuffix(suffix) + suffix))
        details = {"type": artifact.kind, "aliases": artifact.aliases, "metadata": artifact.metadata}
        if given := {key: value for key, value in details.items() if value}:
            self._write_json(f"{path_name(artifact.name)}.metadata.json", given)

    def write_checkpoint(self, checkpoint: Checkpoint, context: LogContext) -> None:
        source, suffix = Path(checkpoint.path), "" if checkpoint.step is None else f"-step-{checkpoint.step}"
        folder = f"checkpoints/{path_name(source.stem)}{suffix}"
        kept = f"{folder}/{path_name(source.name)}"
        self._upload(source, kept)
        found = {"score": checkpoint.score, "step": checkpoint.step, "aliases": checkpoint.aliases}
        details: dict[str, Any] = to_jsonable(found | checkpoint.metadata)
        self._write_json(f"{folder}/metadata.json", details)
        self.set_tags({metric_name(CHECKPOINT_TAG + alias): kept for alias in checkpoint.aliases})
        if self._options["registered_model_name"] is not None:
            self._register(self._options["registered_model_name"], folder, checkpoint.aliases, details)

    def _register(self, model: str, folder: str, aliases: Sequence[str], details: Mapping[str, Any]) -> None:
        """Register ``folder`` as a version of a model, unless it is registered, and move the aliases to it."""
        with suppress(AlreadyThereError):
            self.client.create_registered_model(model)
        source = f"{self._artifact_uri}/{folder}"
        versions = self.client.search_model_versions(f"run_id = '{self.id}'")
        version = next((each for each in versions if (each.name, each.source) == (model, source)), None)
        if version is None:
            tags = {metric_name(key): str(value)[:LONGEST_TAG] for key, value in details.items() if value is not None}
            version = self.client.create_model_version(model, source, self.id, tags=tags, await_creation_for=0)
        for alias in filter(_ALIAS.fullmatch, aliases):
            self.client.set_registered_model_alias(model, alias, version.version)

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        tags = self.client.get_run(self.id).data.tags
        path = tags.get(metric_name(CHECKPOINT_TAG + alias))
        if path is None:
            known = sorted(tag.removeprefix(CHECKPOINT_TAG) for tag in tags if tag.startswith(CHECKPOINT_TAG))
            aliases = ", ".join(known) or "none"
            raise LookupError(f"no checkpoint of this run has the alias {alias!r}; there are: {aliases}")
        return Path(self.client.download_artifacts(self.id, path, str(directory)))

    def _upload(self, source: str | os.PathLike[str], path: str) -> None:
        """Upload a file, or the files in a directory, to a path."""
        if os.path.isdir(source):
            for relative, file in files_in(source).items():
                self._upload(file, f"{path}/{path_name(relative)}")
            return
        os.stat(source)  # an error should name this file, not the link
        with tempfile.TemporaryDirectory() as folder:  # MLflow uses the name of the local file
            named = Path(folder, Path(path).name)
            named.symlink_to(os.path.abspath(source))
            self.client.log_artifact(self.id, str(named), os.path.dirname(path) or None)


def _number(context: LogContext) -> int:
    return round(context.time * 1e6) if context.line is None else context.line


def _file_name(media: Media, context: LogContext) -> str:
    return f"step-{'none' if media.step is None else media.step}-{_number(context)}"


def _read_picture(file: MediaFile) -> Any:
    """Return a PIL image; None if the file is not a picture that browsers can show."""
    from PIL import Image

    data = io.BytesIO(Path(file.path).read_bytes())
    try:
        picture = Image.open(data)
        picture.load()
    except (OSError, ValueError):
        return None
    return picture if picture.format in _PICTURES else None


def _with_bytes(picture: Any) -> Any:
    """Return a picture with 8 bits per channel, which all browsers show."""
    if picture.mode.startswith("I"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of at most ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

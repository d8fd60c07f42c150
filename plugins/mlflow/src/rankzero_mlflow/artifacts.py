"""The files of one MLflow run: where each kind of thing is kept.

==========================================  ====================================================
``images/``                                 pictures, in the layout of MLflow's grid of images
``tables/KEY/``, ``texts/KEY/``, …          one file for each call: ``step-STEP-LINE.json``
``captions/KEY/``                           the captions of pictures, sounds and videos
``checkpoints/NAME/``                       a checkpoint, with ``metadata.json``
==========================================  ====================================================

LINE is the number of the event's line in the journal, so that what is delivered again replaces itself; in direct use
it is the time in microseconds.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.run_info import LogContext
from rankzero.media.store import MediaFile
from rankzero_mlflow.names import image_name, metric_name, path_name
from rankzero_mlflow.registry import register
from rankzero_mlflow.tracked_run import TrackedRun

CHECKPOINT_TAG = "rankzero.checkpoint."
"""The tag ``rankzero.checkpoint.best`` holds the path of the checkpoint with that alias."""

_CHECKPOINTS = "checkpoints"
_TABLES_TAG = "mlflow.loggedArtifacts"  # which JSON files MLflow shows as tables
_MOST_TABLES = 4000  # characters of that tag
_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_PNG_MODES = ("1", "L", "LA", "P", "I", "I;16", "RGB", "RGBA")


class Artifacts:
    """Writes the files of a run.

    Args:
        run: the run.
        model_name: the registered model whose versions the checkpoints become; none if None.
    """

    def __init__(self, run: TrackedRun, model_name: str | None = None) -> None:
        self._run = run
        self._client = run.client
        self._model_name = model_name
        self._has_images = False
        self._tables: list[dict[str, str]] | None = None

    # Media

    def log_images(self, key: str, files: Sequence[MediaFile], step: int | None, context: LogContext) -> None:
        """Add pictures to the grid; what is no picture that MLflow can show becomes a file."""
        for index, file in enumerate(files):
            name = key if len(files) == 1 else f"{key}/{index}"
            picture = _read_picture(file)
            if picture is None:
                self._put(file, f"images/{path_name(name)}", step, context)
            else:
                self._put_in_grid(image_name(name), file, picture, step, context)
        self._log_captions(key, files, step, context)

    def _put_in_grid(self, key: str, file: MediaFile, picture: Any, step: int | None, context: LogContext) -> None:
        """Do what ``MlflowClient.log_image`` does, under a file name that is the same when it is delivered again."""
        from mlflow.tracking.multimedia import compress_image_size
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{_number(context)} {Path(file.path).name}")
        name = f"{key.replace('/', '~')}+step+{step or 0}+timestamp+{round(context.time * 1000)}+{unique}"
        with tempfile.TemporaryDirectory() as folder:
            whole, small = Path(folder, f"{name}.png"), Path(folder, f"{name}+compressed.webp")
            if picture.format == "PNG":
                shutil.copyfile(file.path, whole)
            else:
                (picture if picture.mode in _PNG_MODES else _with_bytes(picture)).save(whole)
            compress_image_size(_with_bytes(picture)).save(small)
            for each in (whole, small):
                self._client.log_artifact(self._run.id, str(each), "images")
        if not self._has_images:
            self._run.set_tags({MLFLOW_LOGGED_IMAGES: "True"})
            self._has_images = True

    def log_files(self, kind: str, key: str, files: Sequence[MediaFile], step: int | None, context: LogContext) -> None:
        """Keep sounds, videos or figures."""
        for index, file in enumerate(files):
            self._put(file, f"{kind}/{path_name(key)}", step, context, index if len(files) > 1 else None)
        self._log_captions(key, files, step, context)

    def _put(
        self, file: MediaFile, folder: str, step: int | None, context: LogContext, index: int | None = None
    ) -> str:
        path = f"{folder}/{_file_name(step, context, index)}{Path(file.path).suffix}"
        self._upload(file, path)
        return path

    def _log_captions(self, key: str, files: Sequence[MediaFile], step: int | None, context: LogContext) -> None:
        captions = [file.caption for file in files]
        if any(captions):
            self.log_json(f"captions/{path_name(key)}/{_file_name(step, context)}.json", captions)

    # Tables, texts, histograms

    def log_table(
        self, folder: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], step: int | None, context: LogContext
    ) -> None:
        """Keep a table in the form that ``mlflow.load_table`` reads."""
        path = f"{folder}/{_file_name(step, context)}.json"
        data = [[self._cell(cell) for cell in row] for row in rows]
        self.log_json(path, {"columns": list(columns), "data": data})
        if self._tables is None:
            shown = self._client.get_run(self._run.id).data.tags.get(_TABLES_TAG, "[]")
            self._tables = json.loads(shown)
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            tables = [*self._tables, entry]
            while len(json.dumps(tables)) > _MOST_TABLES:  # the oldest are shown as JSON
                del tables[0]
            self._run.set_tags({_TABLES_TAG: json.dumps(tables)})
            self._tables = tables

    def _cell(self, cell: Any) -> Any:
        if not isinstance(cell, MediaFile):
            return cell
        path = f"tables/media/{Path(cell.path).name}"
        self._upload(cell, path)
        return {"type": "image", "filepath": path, "compressed_filepath": path}

    def log_text(self, key: str, text: str, step: int | None, context: LogContext) -> None:
        """Keep a text."""
        self._client.log_text(self._run.id, text, f"texts/{path_name(key)}/{_file_name(step, context)}.txt")

    def log_histogram(self, key: str, histogram: Any, step: int | None, context: LogContext) -> None:
        """Keep a histogram: counts and edges."""
        self.log_json(f"histograms/{path_name(key)}/{_file_name(step, context)}.json", histogram)

    def log_graph(self, file: MediaFile) -> None:
        """Keep a model's structure, and its printed form to read."""
        graph = json.loads(Path(file.path).read_bytes())
        self._client.log_text(self._run.id, str(graph.get("text", "")), "graph/model.txt")
        self.log_json("graph/model.json", graph)

    def log_json(self, path: str, value: Any) -> None:
        """Keep a value as JSON."""
        self._client.log_text(self._run.id, msgspec.json.encode(value).decode(), path)

    # Files and checkpoints

    def log_artifact(self, path: str, name: str, details: Mapping[str, Any]) -> None:
        """Keep a file or folder under a name; a file keeps its suffix."""
        source = Path(path)
        if source.is_dir():
            self._upload_tree(source, path_name(name))
        else:
            self._upload(source, path_name(name if name.endswith(source.suffix) else name + source.suffix))
        if details:
            self.log_json(f"{path_name(name)}.metadata.json", details)

    def log_checkpoint(self, path: str, step: int | None, aliases: Sequence[str], details: Mapping[str, Any]) -> None:
        """Keep a checkpoint, and note its aliases: each belongs to the checkpoint that got it last."""
        source = Path(path)
        suffix = "" if step is None else f"-step-{step}"
        folder = f"{_CHECKPOINTS}/{path_name(source.stem)}{suffix}"
        kept = f"{folder}/{path_name(source.name)}"
        if source.is_dir():
            self._upload_tree(source, kept)
        else:
            self._upload(source, kept)
        self.log_json(f"{folder}/metadata.json", details)
        self._run.set_tags({metric_name(CHECKPOINT_TAG + alias): kept for alias in aliases})
        if self._model_name is not None:
            register(self._run, self._model_name, folder, aliases, details)

    def download_checkpoint(self, alias: str, directory: str | os.PathLike[str] | None) -> str:
        """Return the path of a copy of the checkpoint with this alias.

        Raises:
            LookupError: no checkpoint has it.
        """
        tags = self._client.get_run(self._run.id).data.tags
        path = tags.get(metric_name(CHECKPOINT_TAG + alias))
        if path is None:
            known = sorted(tag.removeprefix(CHECKPOINT_TAG) for tag in tags if tag.startswith(CHECKPOINT_TAG))
            raise LookupError(
                f"no checkpoint of this run has the alias {alias!r}; there are: {', '.join(known) or 'none'}"
            )
        if directory is not None:
            Path(directory).mkdir(parents=True, exist_ok=True)
        return str(self._client.download_artifacts(self._run.id, path, None if directory is None else str(directory)))

    def _upload(self, source: str | os.PathLike[str], path: str) -> None:
        os.stat(source)  # so that the error names it, and not the link
        with tempfile.TemporaryDirectory() as folder:  # MLflow calls a file as it is called here
            named = Path(folder, Path(path).name)
            named.symlink_to(Path(source).absolute())
            self._client.log_artifact(self._run.id, str(named), os.path.dirname(path) or None)

    def _upload_tree(self, source: Path, folder: str) -> None:
        for file in sorted(each for each in source.rglob("*") if each.is_file()):
            self._upload(file, f"{folder}/{path_name(file.relative_to(source).as_posix())}")


def _number(context: LogContext) -> int:
    return round(context.time * 1e6) if context.line is None else context.line


def _file_name(step: int | None, context: LogContext, index: int | None = None) -> str:
    parts = ["step", "none" if step is None else step, _number(context)]
    return "-".join(map(str, parts if index is None else [*parts, index]))


def _read_picture(file: MediaFile) -> Any:
    """Return a PIL image, None if the file is no picture of a kind that browsers show."""
    from PIL import Image, UnidentifiedImageError

    data = io.BytesIO(Path(file.path).read_bytes())
    try:
        picture = Image.open(data)
        picture.load()
    except (UnidentifiedImageError, OSError, ValueError):
        return None
    return picture if picture.format in _PICTURES else None


def _with_bytes(picture: Any) -> Any:
    """Return a picture in colours of 8 bits, which all browsers show."""
    if picture.mode.startswith("I"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")

"""The session of a logger that is used directly, as Lightning's: what is logged is Neptune's client's to deliver."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rankzero.errors import ConfigError, TrackerUnavailableError
from rankzero_neptune.failures import brief
from rankzero_neptune.paths import ATOMS
from rankzero_neptune.pictures import png_in_base64
from rankzero_neptune.points import Point, at, milliseconds
from rankzero_neptune.session import Picture, Say, Session
from rankzero_neptune.settings import Settings

_OFFLINE_NAME, _OFFLINE_ID = "offline-name", "OFFLINE"
_TYPES = {"Boolean": "bool", "Integer": "int", "FileSeries": "imageSeries"}
_KINDS = {bool: "bool", int: "int", float: "float", str: "string"}


class DirectSession(Session):
    """Opens a run, or uses one that is open already.

    Args:
        settings: what the user said of the run.
        say: tells the user something once.
        run: a ``neptune.Run``, or a namespace of one, that the user opened; None for one of our own.
    """

    def __init__(self, settings: Settings, say: Say, run: Any = None) -> None:
        self._run: Any = None
        self._is_ours = False
        self._name: str | None = None
        self._short_id: str | None = None
        self._id: str | None = None  # for the copies of a logger, before it has a run
        self._url: str | None = None
        super().__init__(settings, say)
        self.is_given = run is not None
        """Whether the user opened the run."""
        self._run = run
        if run is not None:
            self._look_at(run)

    def _forget(self) -> None:
        super()._forget()
        self._run = None
        self._held: frozenset[str] = frozenset()  # what was there before

    def __getstate__(self) -> dict[str, Any]:
        if self._short_id is None:
            self._id = self._id or uuid.uuid4().hex
        hidden: dict[str, Any] = {"_run": None, "_is_ours": False, "_tails": {}}
        return {**self.__dict__, **hidden}

    def _settings_again(self) -> Settings:
        """Return the settings with which the same run is opened, by this logger or a copy of it."""
        init = self.settings.init
        if self.settings.mode == "debug":  # there is no run to be found again
            return self.settings
        if self._short_id not in (None, _OFFLINE_ID):
            settings = self.settings.without_ids()
            return settings._replace(name=self._name, init={**settings.init, "with_id": self._short_id})
        if init.get("with_id") or init.get("custom_run_id") or self._id is None:
            return self.settings
        return self.settings._replace(init={**init, "custom_run_id": self._id})

    # Who

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def short_id(self) -> str | None:
        return self._short_id

    @property
    def url(self) -> str | None:
        return self._url

    @property
    def experiment(self) -> Any:
        if self.is_given and self._has_ended:
            raise ConfigError(
                f"the run that was given to NeptuneLogger as run=..., {self._short_id}, has ended, or this is a copy "
                "of the logger, which has no run; make a logger with project=... and with_id=... to go on with it"
            )
        if self._has_ended:
            self._let_go()  # somebody else ended it
        if self._run is None:
            self._open()
        return self._run

    @property
    def _has_ended(self) -> bool:
        if self._run is None:
            return self.is_given
        return bool(_root(self._run).get_state() == "stopped")

    @property
    def _writable(self) -> Any:
        """The run to write to; None, with a warning, if the user stopped the run that was given."""
        if self.is_given and self._run is not None and self._has_ended:
            self._say(
                "ended",
                f"{self._short_id}, which was given to NeptuneLogger as run=..., was stopped: what is logged from now "
                "on is not in Neptune. To log more, stop it later, or make a logger with project=... and with_id=...",
            )
            return None
        return self.experiment

    def _open(self) -> None:
        import neptune

        settings = self._settings_again()
        name = settings.name or self._name_there(settings)
        given = {"api_token": settings.api_key, "project": settings.project, "name": name, **settings.init}
        self._run = neptune.init_run(**{name: value for name, value in given.items() if value is not None})
        self._is_ours = True
        self._look_at(self._run)

    def _name_there(self, settings: Settings) -> str | None:
        """Return the name of a run that is to be continued, without which the client would call it Untitled."""
        import neptune

        with_id = settings.init.get("with_id")
        if with_id is None or settings.mode not in ("async", "sync"):
            return None
        found = neptune.init_run(
            with_id=with_id,
            project=settings.project,
            api_token=settings.api_key,
            proxies=settings.init.get("proxies"),
            mode="read-only",
        )
        try:
            return found["sys/name"].fetch() if found.exists("sys/name") else None
        finally:
            found.stop()

    def _look_at(self, run: Any) -> None:
        root = _root(run)
        with suppress(Exception):  # an offline run has no address
            self._url = root.get_url()
        root.wait(disk_only=root.exists("sys/id") is False)
        if root.exists("sys/id"):
            self._short_id, self._name = root["sys/id"].fetch(), root["sys/name"].fetch()
        else:
            self._short_id, self._name = _OFFLINE_ID, _OFFLINE_NAME
        prefix = "" if root is run else f"{run._path}/"
        found = dict(_types(root.get_structure()))
        held = {path.removeprefix(prefix): kind for path, kind in found.items() if path.startswith(prefix)}
        self._held = frozenset(held)
        self._paths = type(self._paths)(held, self._say_moved)

    def _let_go(self) -> None:
        """Have the same run opened the next time."""
        self._is_ours = False
        self._forget()

    # Write

    def log_points(self, path: str, points: list[Point]) -> None:
        run = self._writable
        for there, fitting in self._fitted(path, points) if points and run is not None else ():
            for point in fitting:
                run[there].append(point.value, step=point.step, timestamp=(point.time + 0.5) / 1000)

    def _held_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        if path not in self._held:
            return ()
        with suppress(Exception):  # where the client cannot read: offline
            newest = self.experiment[path].fetch_values(progress_bar=False).iloc[-1]
            time = newest["timestamp"].to_pydatetime().timestamp()  # local and naive, which pandas takes for UTC
            return [Point(newest["value"], float(newest["step"]), milliseconds(time))]
        return ()

    def log_picture(self, path: str, picture: Picture) -> None:
        from neptune.types import File

        run = self._writable
        if run is None:
            return
        if png_in_base64(picture.file) is None:
            self.upload(f"{path}_files/{at(picture.step)}", picture.file)
            return
        there = self._claimed(path, "imageSeries")
        content = File.from_content(Path(picture.file).read_bytes(), extension=Path(picture.file).suffix[1:])
        moment = {"step": picture.step, "timestamp": (picture.time + 0.5) / 1000}
        run[there].append(content, name=Path(picture.file).name, description=picture.caption, **moment)

    def assign(self, path: str, value: bool | int | float | str) -> None:
        run, kind = self._writable, _KINDS[type(value)]
        if run is None:
            return
        if self._paths.type_of(path) in ATOMS - {kind}:
            self._paths.free(path)
            run.pop(path)
        run[self._claimed(path, kind)].assign(value)

    def add_strings(self, path: str, values: Iterable[str]) -> None:
        values, run = list(values), self._writable
        if values and run is not None:
            run[self._claimed(path, "stringSet")].add(values)

    def upload(self, path: str, file: str) -> None:
        from neptune.types import File

        run = self._writable
        if run is None:
            return
        # A copy: the client uploads later, when the file may be another, or deleted.
        with open(file, "rb") as stream:
            run[self._claimed(path, "file")].upload(File.from_stream(stream, extension=Path(file).suffix[1:]))

    def delete(self, path: str) -> None:
        run = self._writable
        for each in self._paths.at(path) if run is not None else ():
            self._paths.free(each)
            run.pop(each)

    def keep_only(self, path: str, kept: Container[str]) -> None:
        for each in self.files_below(path):
            if each not in kept:
                self.delete(each)

    def _claimed(self, path: str, kind: str) -> str:
        return self._paths.claim(path, kind)

    # Read

    def texts_below(self, path: str) -> dict[str, str]:
        run, found = self._writable, {}
        begin = f"{path}/"
        for each in self._paths.at(path) if run is not None else ():
            if self._paths.type_of(each) == "string" and each.startswith(begin):
                with suppress(Exception):  # where the client cannot read: offline
                    found[each.removeprefix(begin)] = run[each].fetch()
        return found

    def files_below(self, path: str) -> list[str]:
        return self._paths.at(path) if self._writable is not None else []

    def download(self, path: str, destination: str) -> None:
        run = self.experiment
        run.wait()
        run[path].download(destination, progress_bar=False)

    # Ended

    def wait(self) -> None:
        from neptune.common.exceptions import NeptuneException

        if self._run is None or _root(self._run).get_state() == "stopped":
            return
        try:
            _root(self._run).wait(disk_only=self.settings.is_offline)
        except NeptuneException as error:
            raise TrackerUnavailableError(f"Neptune's client has given up: {brief(error)}") from error

    def end(self, path: str, status: str) -> None:
        if self._run is not None and not (self.is_given and self._has_ended):
            self.assign(path, status)

    def close(self) -> None:
        """Have the run stopped, if it is ours; Neptune has everything then, or its client says that it has not."""
        if self._is_ours and self._run is not None:
            run = self._run
            self._let_go()
            run.stop()


def _root(run: Any) -> Any:
    """Return the ``neptune.Run`` of a run or of a namespace in one."""
    return run.get_root_object()


def _types(structure: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, Neptune's type) of what a run holds."""
    for name, each in structure.items():
        if isinstance(each, Mapping):
            yield from _types(each, f"{above}{name}/")
        else:
            kind = type(each).__name__
            yield f"{above}{name}", _TYPES.get(kind, kind[:1].lower() + kind[1:])

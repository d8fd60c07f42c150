"""The session of a logger to which a courier delivers: requests are answered before anything counts as delivered.

Neptune's own client works through a queue in a thread that dies without a word. Here what is logged waits until
`wait`, and is then a few requests. After a failure the run is looked at anew, and what it has is not sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from rankzero.errors import AccessError, ConfigError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero_neptune import operations
from rankzero_neptune.backend import Backend, Held
from rankzero_neptune.batches import MOST_POINTS, batches
from rankzero_neptune.bounds import request_timeout
from rankzero_neptune.opening import FAILED, MARK, NAME, connect, extension, first_operations
from rankzero_neptune.paths import ATOMS, joined
from rankzero_neptune.pictures import png_in_base64
from rankzero_neptune.points import Point, at
from rankzero_neptune.session import Picture, Say, Session
from rankzero_neptune.settings import Settings

_KINDS = {bool: "bool", int: "int", float: "float", str: "string"}
_GOOD = ("success", "finished")

Job = Callable[[], Iterable[Any]]
"""Returns operations; called when the run is open."""


class CourierSession(Session):
    """Goes on with the Neptune run of a rankzero run.

    Args:
        settings: what the user said of the run.
        say: tells the user something once.
        run: the rankzero run.
    """

    def __init__(self, settings: Settings, say: Say, run: RunInfo) -> None:
        self._info = run
        self._opening = threading.RLock()  # a courier that is a thread, and who uses the run meanwhile
        self._short_id: str | None = None
        self._url: str | None = None
        self._live: Any = None
        self._has_ended = False
        self._has_delivered = False
        self._was_opened = False
        super().__init__(settings, say)

    def _forget(self) -> None:
        super()._forget()
        self._backend: Backend | None = None
        self._held: dict[str, Held] = {}
        self._picture_steps: dict[str, float] = {}
        self._jobs: list[Job] = []
        self._points: dict[tuple[str, type[Any]], list[Point]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_say": self._say, "_info": self._info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"], state["_say"], state["_info"])  # type: ignore[misc]

    # Who

    @property
    def name(self) -> str | None:
        return self.settings.name or self._info.name

    @property
    def short_id(self) -> str | None:
        return self._short_id

    @property
    def url(self) -> str | None:
        return self._url

    @property
    def experiment(self) -> Any:
        with self._opening:
            if self._live is None:
                import neptune

                self._open()
                self._live = neptune.init_run(**self._arguments_to_join())
            return self._live

    def _arguments_to_join(self) -> dict[str, Any]:
        """Return arguments of ``init_run`` that change nothing in the run, but what the user asked for."""
        settings, backend = self.settings.without_ids(), self._open()
        first_time_only = ("tags", "description", "mode")
        given = {name: value for name, value in settings.init.items() if name not in first_time_only}
        quiet: dict[str, Any] = dict.fromkeys(
            ["capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback", "git_ref"], False
        )
        found = backend.attributes().get(NAME)
        return {
            **quiet,
            "api_token": settings.api_key,
            "project": backend.project,
            "name": found.value if found is not None else self.name,  # the client would call it Untitled
            **given,
            "with_id": backend.short_id,
        }

    # Open

    def _open(self) -> Backend:
        with self._opening:
            if self._backend is None:
                try:
                    self._backend = self._opened()
                except ConfigError as error:
                    raise AccessError(f"the run cannot be opened in Neptune: {error}") from error
                except RejectedError as error:  # no event is to blame
                    raise TrackerUnavailableError(f"the run cannot be opened in Neptune: {error}") from error
            return self._backend

    def _opened(self) -> Backend:
        backend = connect(self.settings, self._info)
        self._held = backend.attributes()
        self._paths = type(self._paths)({path: each.type for path, each in self._held.items()}, self._say_moved)
        self._short_id, self._url = backend.short_id, backend.url
        mark = self._held.get(MARK)
        if mark is None and self._was_opened:
            raise AccessError(
                f"{backend.url}: the run was deleted in Neptune, and what it had is not there; to deliver all of it "
                f"once more: rankzero sync {self._info.id} --to neptune --again"
            )
        if mark is None or mark.value != self._info.id:  # of another run that went on with this one
            backend.execute(first_operations(self.settings, self._info))
        self._was_opened = True
        return backend

    # Write

    def log_points(self, path: str, points: list[Point]) -> None:
        if points:
            self._points.setdefault((path, type(points[0].value)), []).extend(points)

    def log_picture(self, path: str, picture: Picture) -> None:
        _check_file(picture.file)
        data = png_in_base64(picture.file)  # now: what is wrong with it is this event's fault
        self._jobs.append(lambda: self._picture_operations(path, picture, data))

    def _picture_operations(self, wished: str, picture: Picture, data: str | None) -> Iterator[Any]:
        path = self._paths.claim(wished, "imageSeries") if data is not None else wished
        last = self._picture_steps.get(path, self._held[path].last_step if path in self._held else None)
        if data is None or (last is not None and picture.step is not None and picture.step <= last):
            yield from self._upload_operations(joined(f"{wished}_files", at(picture.step)), picture.file)
            return
        self._picture_steps[path] = picture.step if picture.step is not None else (-1.0 if last is None else last) + 1.0
        yield operations.log_image(path, data, Path(picture.file).name, picture.caption, picture.step, picture.time)

    def assign(self, path: str, value: bool | int | float | str) -> None:
        self._jobs.append(lambda: self._assign_operations(path, value))

    def _assign_operations(self, wished: str, value: bool | int | float | str) -> Iterator[Any]:
        kind = _KINDS[type(value)]
        if self._paths.type_of(wished) in ATOMS - {kind}:
            self._paths.free(wished)
            yield operations.delete(wished)
        yield operations.assign(self._paths.claim(wished, kind), value)

    def add_strings(self, path: str, values: Iterable[str]) -> None:
        values = list(values)
        if values:
            self._jobs.append(lambda: [operations.add_strings(self._paths.claim(path, "stringSet"), values)])

    def upload(self, path: str, file: str) -> None:
        _check_file(file)
        self._jobs.append(lambda: self._upload_operations(path, file))

    def _upload_operations(self, path: str, file: str) -> list[Any]:
        return [operations.upload(self._paths.claim(path, "file"), file, extension(file))]

    def delete(self, path: str) -> None:
        self.keep_only(path, ())

    def keep_only(self, path: str, kept: Container[str]) -> None:
        self._jobs.append(lambda: self._delete_operations(path, kept))

    def _delete_operations(self, path: str, kept: Container[str]) -> Iterator[Any]:
        for each in self._paths.at(path):
            if each not in kept:
                self._paths.free(each)
                yield operations.delete(each)

    # Read

    def texts_below(self, path: str) -> dict[str, str]:
        begin = f"{path}/"
        return {
            each.removeprefix(begin): held.value
            for each, held in self._open().attributes().items()
            if each.startswith(begin) and held.type == "string"
        }

    def files_below(self, path: str) -> list[str]:
        self._open()
        return self._paths.at(path)

    def download(self, path: str, destination: str) -> None:
        self._open().download(path, destination)

    def _held_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        return self._open().newest_points(path, kind, since) if path in self._held else ()

    # Acknowledged and ended

    def wait(self) -> None:
        jobs, points = self._jobs, self._points
        self._jobs, self._points = [], {}
        if not jobs and not points:
            return
        try:
            backend = self._open()
            self._has_delivered = True
            for batch in batches(self._operations(jobs, points)):
                backend.execute(batch)
        except Exception:
            self._forget()
            raise

    def _operations(self, jobs: Iterable[Job], points: dict[tuple[str, type[Any]], list[Point]]) -> Iterator[Any]:
        for job in jobs:
            yield from job()
        for (wished, _), logged in points.items():
            for path, fitting in self._fitted(wished, logged):
                log = operations.log_strings if isinstance(fitting[0].value, str) else operations.log_floats
                for first in range(0, len(fitting), MOST_POINTS):
                    yield log(path, fitting[first : first + MOST_POINTS])

    def end(self, path: str, status: str) -> None:
        self._has_ended = True
        self.assign(path, status)
        self.assign(FAILED, status not in _GOOD)
        self.wait()

    def close(self) -> None:
        """Release everything; the user may go on with the live run until the end.

        A logger that delivered nothing itself was only there for the live run, and so that is its end.
        """
        try:
            self.wait()
        finally:
            self._forget()
            if self._live is not None and (self._has_ended or not self._has_delivered):
                live, self._live = self._live, None
                live.stop(seconds=request_timeout())


def _check_file(file: str) -> None:
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file} is no file, or no longer there")

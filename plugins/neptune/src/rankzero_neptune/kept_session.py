"""The session of a logger that stays offline under a Run: the journal has everything, and nothing else is written."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, NoReturn

from rankzero.errors import ExperimentUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero_neptune.points import Point
from rankzero_neptune.session import Picture, Say, Session
from rankzero_neptune.settings import Settings


class KeptSession(Session):
    """Writes nothing; ``rankzero sync`` delivers later what the journal has.

    Args:
        settings: what the user said of the run.
        say: tells the user something once.
        run: the rankzero run.
    """

    def __init__(self, settings: Settings, say: Say, run: RunInfo) -> None:
        super().__init__(settings, say)
        self._info = run

    @property
    def name(self) -> str | None:
        return self.settings.name or self._info.name

    @property
    def short_id(self) -> str | None:
        return "OFFLINE"

    @property
    def url(self) -> str | None:
        return None

    @property
    def experiment(self) -> NoReturn:
        raise ExperimentUnavailableError(
            f"with mode={self.settings.mode!r} there is no run in Neptune that could be used; start without it"
        )

    def log_points(self, path: str, points: list[Point]) -> None: ...

    def log_picture(self, path: str, picture: Picture) -> None: ...

    def assign(self, path: str, value: bool | int | float | str) -> None: ...

    def add_strings(self, path: str, values: Iterable[str]) -> None: ...

    def upload(self, path: str, file: str) -> None: ...

    def delete(self, path: str) -> None: ...

    def keep_only(self, path: str, kept: Container[str]) -> None: ...

    def texts_below(self, path: str) -> dict[str, str]:
        return {}

    def files_below(self, path: str) -> list[str]:
        return []

    def download(self, path: str, destination: str) -> NoReturn:
        raise LookupError(f"nothing was sent to Neptune, so {path!r} is not there")

    def wait(self) -> None: ...

    def end(self, path: str, status: str) -> None: ...

    def close(self) -> None: ...

    def _held_points(self, path: str, kind: str, since: int) -> Iterable[Any]:
        return ()

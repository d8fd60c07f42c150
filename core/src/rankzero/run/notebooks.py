"""Runs in notebooks and IPython: end a run when its cell is run again, is interrupted or fails; HTML of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

from rankzero.processes import ipython_shell
from rankzero.run import endings

log = logging.getLogger("rankzero")


class Run(endings.Endable, Protocol):
    """A `rankzero.Run`, as this module uses it."""

    @property
    def name(self) -> str: ...
    @property
    def step(self) -> int: ...
    def finalize(self, status: str) -> None: ...
    def finish(self, status: str | None = None) -> None: ...


class _Cell(NamedTuple):
    """One execution of a cell."""

    key: str
    """Identifies the cell; the same when the cell is run again."""
    execution: int


_cells: WeakKeyDictionary[Run, _Cell] = WeakKeyDictionary()
"""Run → the cell that started it."""
_steps: dict[Run, int] = {}
"""Open run → its last step before the current cell."""
_noted: WeakSet[Run] = WeakSet()
"""The runs whose status this module has set."""
_watched: list[Any] = []
"""The shell whose cells are watched."""
_executions = 0
"""The number of cells that have ended; IPython's own counter does not count without a history."""


def end_run_of_same_cell() -> None:
    """End open runs that an earlier execution of the current cell started; log a warning for those of other cells.

    Called before a run is started. Several runs of one execution are kept, because that is intended.
    """
    shell = ipython_shell()
    if shell is None:
        return
    now = _current_cell(shell)
    for run in _open_runs():
        then = _cells[run]
        if then.execution == now.execution:
            continue
        if then.key == now.key:
            log.warning("the run %s, which this cell started before, is still open; it is ended now", run.name)
            run.finish()
        else:
            log.warning("the run %s is still open; end it with run.finish() if you are done with it", run.name)


def remember(run: Run) -> None:
    """Remember which cell started a run, and watch how cells end; does nothing outside IPython."""
    shell = ipython_shell()
    if shell is None:
        return
    _cells[run] = _current_cell(shell)
    if shell not in _watched:
        _watched[:] = [shell]
        shell.events.register("pre_run_cell", _before_cell)
        shell.events.register("post_run_cell", _after_cell)


def as_html(name: str, project: str, run_id: str, directory: str, status: str, views: Mapping[str, str]) -> str:
    """Return the HTML of a run for a notebook; ``views`` has the URL or shell command of each logger."""
    from html import escape  # its table of entities takes a while to load

    lines = [
        f"<strong>{escape(name)}</strong> · {escape(project)} · {escape(status)}",
        f"<code>{escape(run_id)}</code> in <code>{escape(directory)}</code>",
        *(f"view it in {escape(key)}: {_link(escape(view))}" for key, view in views.items()),
    ]
    return f"<div>{'<br>'.join(lines)}</div>"


def _link(view: str) -> str:
    is_url = view.startswith(("http://", "https://"))
    return f'<a href="{view}" target="_blank" rel="noopener">{view}</a>' if is_url else f"<code>{view}</code>"


def _current_cell(shell: Any) -> _Cell:
    try:
        key = shell.get_parent()["metadata"]["cellId"]  # Jupyter sets it, other frontends may not
    except Exception:
        key = shell.user_ns.get("In", [""])[-1]
    return _Cell(str(key), _executions)


def _open_runs() -> list[Run]:
    return [run for run in list(_cells) if endings.is_open(run)]


def _before_cell(info: Any) -> None:
    _steps.clear()
    _steps.update({run: run.step for run in _open_runs()})


def _after_cell(result: Any) -> None:
    global _executions
    # There is no result if a cell was interrupted at an await.
    status = "aborted" if result is None else endings.status_after(result.error_in_exec)
    execution, _executions = _executions, _executions + 1
    for run in _open_runs():
        is_started_here = _cells[run].execution == execution
        if status == "aborted" and is_started_here:
            log.warning("the cell that started the run %s was interrupted: the run ends as aborted", run.name)
            run.finish(status)
        elif is_started_here or run.step != _steps.get(run):
            _note(run, status)
    _steps.clear()


def _note(run: Run, status: str | None) -> None:
    if status is not None:
        _noted.add(run)
        run.finalize(status)
        log.warning("the run %s stays open, and ends as %s unless you give finish() another status", run.name, status)
    elif run in _noted:  # the cell was fixed, or another cell continued
        _noted.discard(run)
        run.finalize("success")

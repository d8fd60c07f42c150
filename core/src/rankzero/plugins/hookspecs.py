"""The hooks that a plugin can implement: called when a run starts, ends, logs, or fails to deliver.

A hook is implemented by a function with its name and the decorator ``@rankzero.hookimpl``. The function may leave out
arguments that it does not need. If it raises, that is reported once, with the name of the plugin, and affects neither
the run nor other plugins. An entry point names the module with the functions:

    [project.entry-points.rankzero]
    my-hooks = "my_package.hooks"

The module of a logger may implement hooks, too; they are called if that logger was chosen by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Event

hookspec = pluggy.HookspecMarker("rankzero")
hookimpl = pluggy.HookimplMarker("rankzero")


@hookspec
def rankzero_run_started(run: Any) -> None:
    """Called when a run has started, in the training process, on rank zero.

    The journal is open, and the function may log.

    Args:
        run: the `rankzero.Run`.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_run_started(run):
        ...     run.log_hyperparams({"hostname": socket.gethostname()})
    """


@hookspec
def rankzero_run_finished(run: Any, status: str) -> None:
    """Called when a run ends, in the training process, before it waits for its couriers. The function may log.

    Args:
        run: the `rankzero.Run`.
        status: ``success``, ``failed`` or ``aborted``.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_run_finished(run, status):
        ...     if status == "failed":
        ...         send_mail(f"{run.name} failed, see {run.dir}")
    """


@hookspec
def rankzero_delivery_failed(run_info: RunInfo, logger: str, error: Exception, retrying: bool) -> None:
    """Called when an attempt to deliver events to a tracker failed, in the courier's process or thread.

    Training does not wait for this function, but the courier does.

    Args:
        run_info: the id, name and directory of the run.
        logger: the key of the logger in the run, such as ``csv``.
        error: what the logger raised.
        retrying: False if the events went to the reject list, or the courier gave up.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_delivery_failed(run_info, logger, error, retrying):
        ...     if not retrying:
        ...         page_me(f"{run_info.name}: {logger} refused events: {error}")
    """


@hookspec
def rankzero_event_filter(run: Any) -> Callable[[Event], Event | None] | None:
    """Return a filter function that renames, changes or drops events; or None for no filter.

    Called once for each run, in the training process, on rank zero, before the first event. The filter is called
    with every event that loggers get (not with the start and end of the run) before it is written to the journal. It
    must be fast. It returns the event, another one (events are frozen: make it with ``msgspec.structs.replace``), or
    None to drop it; a dropped event is not written anywhere. The filters of several plugins are applied in the order
    of registration, each to the result of the previous one.

    If the filter raises, the event is kept unchanged, because losing a value would be worse. A filter that redacts
    must catch its own exceptions and return None.

    Args:
        run: the `rankzero.Run`, before anything is logged.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_event_filter(run):
        ...     def without_debug(event):
        ...         return None if getattr(event, "key", "").startswith("debug/") else event
        ...     return without_debug
    """


@hookspec
def rankzero_importers() -> Mapping[str, type[Any]] | None:
    """Return the plugin's importers for ``rankzero import``: name → subclass of `rankzero.importers.base.Importer`.

    Called only on the command line. Use the name of the tool whose data is read. Hook modules are imported whenever a
    run starts, so import the class in this function, not at the top of the module.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_importers():
        ...     from my_package.importing import LabBookImporter
        ...     return {"labbook": LabBookImporter}
    """


@hookspec
def rankzero_exporters() -> Mapping[str, type[Any]] | None:
    """Return the plugin's formats for ``rankzero export``: name → exporter.

    An exporter is a subclass of `rankzero.reader.exporting.base.Exporter`. Called only on the command line. Begin the
    name with that of the plugin, such as ``labbook-xml``: so users are told what to install. Import the class in this
    function, as in `rankzero_importers`.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_exporters():
        ...     from my_package.exporting import LabBookExporter
        ...     return {"labbook-xml": LabBookExporter}
    """

"""The hooks: moments of a run at which a plugin may act without being a logger, and what it may offer.

A plugin is a module; its functions that carry ``@rankzero.hookimpl`` and the name of a hook are called. A
hook may leave out arguments that it does not need. A hook that raises is reported once, with the name of its
plugin, and hurts neither the run nor the other plugins. The module is found through an entry point that
names it:

    [project.entry-points.rankzero]
    my-hooks = "my_package.hooks"

A module that defines a logger may hold hooks too; they are called once that logger has been chosen by name.
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
    """Act when a run has begun, in the training process, on rank zero, with the journal open.

    What is logged here goes to the journal as everything else does.

    Args:
        run: the `rankzero.Run`; `Run.id`, `Run.dir` and every verb can be used.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_run_started(run):
        ...     run.log_hyperparams({"hostname": socket.gethostname()})
    """


@hookspec
def rankzero_run_finished(run: Any, status: str) -> None:
    """Act when a run ends, in the training process: it may still log; afterwards its couriers are waited for.

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
    """Act when an attempt to deliver events to a tracker failed, in the courier (its process or thread).

    Training is not affected, so nothing here needs to be quick; but the courier waits for it.

    Args:
        run_info: which run it is.
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
    """Return a function that renames, changes or drops what is logged; or None, to let everything pass.

    Asked once a run, in the training process, on rank zero, before the first event. The function is called
    with every event that loggers get (so not with a run's start and end) before that reaches the journal. It
    must be quick, and what it takes out is written nowhere. It returns the event, another one (events are
    frozen: make it with ``msgspec.structs.replace``), or None to drop it. The functions of several plugins are
    applied in the order in which those were registered, each to the result of the one before.

    If the function raises, the event passes as it was: losing a value would be worse. A filter that must
    never let something pass catches its own exceptions and returns None.

    Args:
        run: the `rankzero.Run`, of which nothing is logged yet.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_event_filter(run):
        ...     def without_debug(event):
        ...         return None if getattr(event, "key", "").startswith("debug/") else event
        ...     return without_debug
    """


@hookspec
def rankzero_importers() -> Mapping[str, type[Any]] | None:
    """Return what ``rankzero import`` can read with this plugin: name → subclass of `rankzero.importers.base.Importer`.

    Asked on the command line only. The name is typed by people, so it is that of the tool whose data are read. Hook
    modules are imported whenever a run starts: import the class in this function, not at the top of the module.

    Example:
        >>> @rankzero.hookimpl
        ... def rankzero_importers():
        ...     from my_package.importing import LabBookImporter
        ...     return {"labbook": LabBookImporter}
    """

"""``rankzero check``: test a logger by logging a small run."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, Options, parse_options

if TYPE_CHECKING:
    from rankzero.loggers.base import Logger

_LONGEST_MESSAGE = 300


def check(
    name: Annotated[str, typer.Argument(help="The logger, as in: rankzero loggers")],
    option: Options = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the tracker.")] = 60.0,
    json: Json = False,
) -> None:
    """Try a logger for real.

    A run is opened, written to, flushed and closed, as training would. The options are those of your config
    files and environment, those given here on top. Trackers on a server keep the run, which is called
    "check" in the project "rankzero-check". A plugin of hooks is imported, and its hooks are listed.

    Example: rankzero check csv --option save_dir=/tmp/runs

    The exit status is 1, and one line says what is wrong, if that fails.
    """
    from rankzero.config.prepared import prepare
    from rankzero.delivery.destinations import logger_from_config
    from rankzero.delivery.sync_job import act_as_rank_zero
    from rankzero.errors import ConfigError, RankzeroError
    from rankzero.plugins.registry import get_plugins

    act_as_rank_zero()
    info = get_plugins().available().get(name)
    if info is not None and info.kind == "hooks":
        _check_hooks(name, timeout, bool(option), json=json)
        return
    spec = logger_from_config(name, parse_options(option))
    secrets: list[str] = []
    problem: Exception | None = None
    with tempfile.TemporaryDirectory(prefix="rankzero-check-", ignore_cleanup_errors=True) as directory:
        try:
            prepared = prepare(spec)
            secrets = prepared.secrets
            _in_time(timeout, lambda: _try(prepared.make(), Path(directory)))
        except ConfigError:
            raise
        except Exception as error:
            problem = error
    if problem is None:
        _pass(name, json=json)
        return
    text = str(problem) if isinstance(problem, RankzeroError) else f"{type(problem).__name__}: {problem}"
    _fail(name, _one_line(text, secrets), is_hanging=isinstance(problem, TimeoutError), json=json)


def _check_hooks(name: str, timeout: float, has_options: bool, *, json: bool) -> None:
    from rankzero.errors import ConfigError
    from rankzero.plugins.registry import get_plugins

    if has_options:
        raise ConfigError(f"{name!r} is a plugin of hooks, which takes no options")
    plugins = get_plugins()
    try:
        _in_time(timeout, plugins.load_hooks)
    except TimeoutError as error:
        _fail(name, str(error), is_hanging=True, json=json)
    info = plugins.available()[name]
    if info.problem:
        _fail(name, _one_line(info.problem, []), json=json)
    module = plugins.manager.get_plugin(name)
    hooks = sorted(caller.name for caller in plugins.manager.get_hookcallers(module) or ())
    if not hooks:
        _fail(name, f"{info.target} has no hooks; mark its functions with @rankzero.hookimpl", json=json)
    _pass(name, hooks, json=json)


def _pass(name: str, hooks: Sequence[str] = (), *, json: bool) -> None:
    if json:
        terminal.print_json({"logger": name, "ok": True, "problem": None, "hooks": hooks})
    else:
        has = f", it has {', '.join(hooks)}" if hooks else ""
        terminal.console().print(f"[green]{terminal.escape(name)}: ok[/]{has}")


def _fail(name: str, message: str, *, is_hanging: bool = False, json: bool) -> NoReturn:
    if json:
        terminal.print_json({"logger": name, "ok": False, "problem": message, "hooks": ()})
    else:
        typer.echo(f"{name}: {message}", err=True)
    if is_hanging:  # an SDK that hangs would keep this process from ending
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    raise typer.Exit(1)


def _one_line(text: str, secrets: list[str]) -> str:
    from rankzero.secrets import scrub

    return terminal.cut(" ".join(scrub(text, secrets).split()), _LONGEST_MESSAGE)


def _try(logger: Logger, directory: Path) -> None:
    from rankzero.events.run_info import LogContext, RunInfo

    project, run_id = "rankzero-check", uuid.uuid4().hex
    run_dir = directory / project / run_id
    run_dir.mkdir(parents=True)
    run = RunInfo(run_id, "check", project, str(run_dir), started=time.time())
    logger.attach(run)
    logger.watermark()
    with logger.at(LogContext(run.started, 0)):
        logger.log_hyperparams({"check": True})
    with logger.at(LogContext(run.started, 1)):
        logger.log_metrics(metrics={"check": 1.0}, step=0)
    logger.flush()
    logger.finalize("success")
    logger.flush()
    logger.close()


def _in_time(timeout: float, action: Callable[[], object]) -> None:
    """Call ``action`` in a thread, for an SDK may hang; raise what it raises, or TimeoutError."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout:g} s")
    if raised:
        raise raised[0]

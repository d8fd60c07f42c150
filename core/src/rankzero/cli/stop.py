"""``rankzero stop``: stop the couriers of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import runs_directory

if TYPE_CHECKING:
    from rankzero.delivery.active_couriers import CourierAtWork

_KILLED_WITHIN = 10.0


def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, id or name, as in: rankzero ps")],
    logger: Annotated[str | None, typer.Option("--logger", help="End only the courier for this logger.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for what is being sent.")] = 10.0,
    kill: Annotated[bool, typer.Option("--kill", help="Then kill a courier that is still there.")] = False,
) -> None:
    """End the couriers of a run.

    A courier ends after what it is sending. Nothing is lost: what is not delivered waits in the journal, and is
    delivered by rankzero sync. The run itself goes on, if it has not ended.

    Example: rankzero stop amber-otter-12 --logger csv

    The exit status is 1 if one is still at work.
    """
    from rankzero.delivery import active_couriers

    chosen = active_couriers.choose(active_couriers.at_work(runs_directory(None)), run, logger)
    stopped = [_stop(each, timeout, kill) for each in chosen]
    if not all(stopped):
        raise typer.Exit(1)


def _stop(courier: CourierAtWork, timeout: float, kill: bool) -> bool:
    from rankzero.delivery import active_couriers

    title = f"{courier.run_name} → {courier.key}"
    if active_couriers.stop(courier, timeout):
        terminal.say(f"{title}: stopped; {_rest(courier)}")
        return True
    who = f"process {courier.pid} on {courier.host}" if courier.pid else "its process"
    if not kill:
        terminal.say(f"{title}: {who} ends when it has sent what it is sending; end it now with --kill", err=True)
        return False
    if active_couriers.kill(courier) and active_couriers.stop(courier, _KILLED_WITHIN):
        terminal.say(f"{title}: killed; {_rest(courier)}")
        return True
    why = "it also does something else, runs on another machine, or cannot be identified for sure"
    terminal.say(f"{title}: {who} is not killed: {why}", err=True)
    return False


def _rest(courier: CourierAtWork) -> str:
    from rankzero.rundir.finding import delivered

    behind = delivered(courier.run_dir, [courier.key])[courier.key].behind
    command = f"rankzero sync {terminal.argument(str(courier.run_dir))}"
    if behind:
        wait = "event waits" if behind == 1 else "events wait"
        return f"{behind:,} {wait} in the journal; deliver with: {command}"
    return f"what is logged from now on is delivered by: {command}" if courier.is_live else "all of it is delivered"

"""``rankzero loggers``: list installed loggers with their state, and installable ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json

if TYPE_CHECKING:
    from rankzero.plugins.registry import PluginInfo

_STYLES = {"ok": "green", "not installed": "dim"}


def loggers(json: Json = False) -> None:
    """List installed and installable loggers.

    No plugin is imported; `rankzero check` tests one. Plugins with hooks are listed, too.

    Example: rankzero loggers

    The exit status is 1 if an installed plugin cannot be used.
    """
    import msgspec

    from rankzero.plugins.registry import get_plugins, known_loggers

    class Row(msgspec.Struct):
        logger: str
        state: str
        package: str | None = None
        version: str | None = None
        sdk: str | None = None
        what_to_do: str | None = None

    available = get_plugins().available()
    rows = []
    for info in available.values():
        state, what_to_do = _state(info)
        sdk = ", ".join(f"{name} {version or 'missing'}" for name, version in _sdks(info.distribution).items())
        rows.append(Row(info.name, state, info.distribution, info.version, sdk or None, what_to_do))
    rows += [
        Row(name, "not installed", what_to_do=command)
        for name, command in known_loggers().items()
        if name not in available
    ]
    if json:
        terminal.print_json(rows)
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("logger", "state", "package", "SDK", ""):
            table.add_column(heading, no_wrap=heading in ("logger", "state"), overflow="fold")
        for row in rows:
            style = _STYLES.get(row.state, "yellow" if row.state == "hooks" else "red")
            package = f"{row.package} {row.version}" if row.package else "–"
            todo = terminal.escape(row.what_to_do or "")
            table.add_row(row.logger, f"[{style}]{row.state}[/]", package, row.sdk or "–", todo)
        terminal.show(table, terminal.console())
    if any(row.state not in ("ok", "hooks", "not installed") for row in rows):
        raise typer.Exit(1)


def _state(info: PluginInfo) -> tuple[str, str | None]:
    """Return the state of a plugin and how to repair it, without importing it."""
    import importlib.util

    if info.problem:
        return ("duplicate" if info.problem.startswith("Two plugins") else "broken"), info.problem
    missing = [name for name, version in _sdks(info.distribution).items() if version is None]
    if missing:
        return "broken", f"pip install {' '.join(missing)}"
    module = info.target.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(module) is None:
        return "broken", f"there is no module {module}; pip install --force-reinstall {info.distribution}"
    return ("ok" if info.kind == "logger" else "hooks"), None


def _sdks(distribution: str) -> dict[str, str | None]:
    """Return the requirements of a plugin except rankzero: name → installed version, None if missing."""
    from importlib.metadata import PackageNotFoundError, requires, version

    if distribution == "rankzero":
        return {}
    found: dict[str, str | None] = {}
    try:
        requirements = requires(distribution) or []
    except PackageNotFoundError:
        return {}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        if name is None or name[0] == "rankzero" or ";" in requirement:
            continue
        try:
            found[name[0]] = version(name[0])
        except PackageNotFoundError:
            found[name[0]] = None
    return found

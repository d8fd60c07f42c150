"""`Plugins`: the installed plugins; load loggers by name, call hooks.

A plugin is an entry point in the group ``rankzero``. An entry point for a class is a logger, one for a module is a set
of hooks (see `rankzero.plugins.hookspecs`). Finding plugins imports none of them. A logger's module is imported when
the logger is chosen by name, hook modules when a run or a courier starts. A plugin that cannot be loaded is reported
and does not affect others.

If ``RANKZERO_PLUGINS`` is set, only the plugins that it names are used, and those of rankzero itself.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rankzero.errors import (
    BrokenPluginError,
    ConfigError,
    DuplicatePluginError,
    PluginError,
    PluginNotInstalledError,
    UnknownLoggerError,
)
from rankzero.events.structs import Event
from rankzero.messages import OnceWarner, did_you_mean
from rankzero.plugins.entry_points import EntryPoint, find_entry_points, normalized
from rankzero.rank import rank_zero_warn_user
from rankzero.values import as_names

if TYPE_CHECKING:
    import pluggy

ALLOW_LIST = "RANKZERO_PLUGINS"
_CORE = "rankzero"


class PluginInfo(msgspec.Struct, frozen=True):
    """An installed plugin, described without importing it."""

    name: str
    kind: Literal["logger", "hooks"]
    target: str
    distribution: str
    version: str
    problem: str | None = None
    """Why the plugin cannot be used. An import error is known only after an attempt to import it."""


class Plugins:
    """The plugins of this environment."""

    def __init__(self) -> None:
        self._found: dict[str, list[EntryPoint]] = {}
        self._disallowed: dict[str, list[EntryPoint]] = {}
        self._problems: dict[str, PluginError] = {}
        self._loggers: dict[str, type[Any]] = {}
        self._loaded_hooks: set[str] = set()
        self._warner = OnceWarner(rank_zero_warn_user)
        self._manager: pluggy.PluginManager | None = None
        self._find()

    def _find(self) -> None:
        everything: dict[str, list[EntryPoint]] = {}
        for entry_point in find_entry_points():
            everything.setdefault(entry_point.name, []).append(entry_point)
        allowed = _allowed_names()
        for name in sorted(allowed or ()):
            if name not in everything:
                raise ConfigError(
                    f"{ALLOW_LIST} names {name!r}, but no installed plugin has that name."
                    f"{did_you_mean(name, everything)} Installed: {_joined(everything)}."
                )
        self._found, self._disallowed = {}, {}
        for name, owners in everything.items():
            usable = owners
            if allowed is not None and name not in allowed:
                usable = [each for each in owners if normalized(each.distribution) == _CORE]
            (self._found if usable else self._disallowed)[name] = usable or owners

    def available(self) -> dict[str, PluginInfo]:
        """Return the installed and allowed plugins by name, without importing them."""
        return {name: self._describe(name) for name in sorted(self._found)}

    def _describe(self, name: str) -> PluginInfo:
        owners = self._found[name]
        problem = _duplicate(name, owners) if len(owners) > 1 else self._problems.get(name)
        return PluginInfo(
            name=name,
            kind="logger" if owners[0].attribute else "hooks",
            target=owners[0].target,
            distribution=owners[0].distribution,
            version=owners[0].version,
            problem=str(problem) if problem else None,
        )

    def load_logger(self, name: str, source: str = "") -> type[Any]:
        """Import a logger by name and return its class.

        Args:
            name: the name of the entry point.
            source: where the name was given, for error messages.

        Raises:
            UnknownLoggerError: there is no such logger, or `RANKZERO_PLUGINS` does not allow it.
            PluginNotInstalledError: the plugin or its SDK is not installed.
            DuplicatePluginError: two distributions provide the name.
            BrokenPluginError: the import failed.
        """
        if name in self._loggers:
            return self._loggers[name]
        if name not in self._found or name in self._problems:
            # The plugin or a missing package may have been installed meanwhile, as in a notebook.
            importlib.invalidate_caches()
            self._find()
        if name not in self._found or not self._found[name][0].attribute:
            raise self._not_found(name, source)
        try:
            self._loggers[name] = self._import_class(_only(name, self._found[name]))
        except PluginError as error:
            self._problems[name] = error
            raise
        self._problems.pop(name, None)
        return self._loggers[name]

    def load_hooks(self) -> list[PluginError]:
        """Import the hook modules, each once; return the errors."""
        problems: list[PluginError] = []
        for name, owners in list(self._found.items()):
            if owners[0].attribute or name in self._loaded_hooks:
                continue
            self._loaded_hooks.add(name)
            try:
                entry_point = _only(name, owners)
                self._register(_import(entry_point), entry_point)
            except PluginError as error:
                self._problems[name] = error
                problems.append(error)
        return problems

    @property
    def manager(self) -> pluggy.PluginManager:
        """Pluggy's manager of the hooks; a program may register an object with hooks here."""
        if self._manager is None:
            # Importing pluggy takes about 10 ms, which a run without hooks saves.
            import pluggy

            from rankzero.plugins import hookspecs

            self._manager = pluggy.PluginManager("rankzero")
            self._manager.add_hookspecs(hookspecs)
        return self._manager

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call ``hook`` of every plugin; a plugin that raises is reported once, and the others are still called.

        Args:
            hook: the name of a hook in `rankzero.plugins.hookspecs`.
            arguments: all arguments of the hook.
        """
        for _ in self._call(hook, **arguments):
            pass

    def call_all(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call ``hook`` of every plugin as `notify` does; return (plugin name, result) of each."""
        return list(self._call(hook, **arguments))

    def event_filter(self, run: Any) -> Callable[[Event], Event | None] | None:
        """Return the event filters of all plugins as one function, or None if there are none."""
        results = self.call_all("rankzero_event_filter", run=run)
        filters = [(plugin, each) for plugin, each in results if each is not None]
        if not filters:
            return None

        def filtered(event: Event) -> Event | None:
            for plugin, each in filters:
                try:
                    result = each(event)
                    if result is not None and not isinstance(result, Event):
                        raise TypeError(f"an event filter must return an event or None, not {type(result).__name__}")
                except Exception as error:
                    self._warn_once(plugin, "rankzero_event_filter", error)
                    continue
                if result is None:
                    return None
                event = result
            return event

        return filtered

    def _call(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        # Pluggy's own call would stop at the first exception and start with the last plugin.
        implementations = [] if self._manager is None else getattr(self._manager.hook, hook).get_hookimpls()
        for each in sorted(implementations, key=lambda each: each.trylast - each.tryfirst):
            try:
                result = each.function(*(arguments[name] for name in each.argnames))
            except (Exception, SystemExit) as error:
                self._warn_once(each.plugin_name, hook, error)
            else:
                yield each.plugin_name, result

    def _warn_once(self, plugin: str, hook: str, error: BaseException) -> None:
        self._warner.warn(
            f"{plugin} {hook}",
            f"The plugin {plugin!r} failed in {hook}: {_reason(error)}. The run continues without it; "
            "further failures of this hook are not reported.",
        )

    def _import_class(self, entry_point: EntryPoint) -> type[Any]:
        module = _import(entry_point)
        try:
            found = functools.reduce(getattr, entry_point.attribute.split("."), module)
        except AttributeError as error:
            raise _broken(entry_point, f"{error}") from error
        if not isinstance(found, type):
            raise _broken(entry_point, f"{entry_point.attribute} is not a class")
        members = vars(module).values()
        if any(isinstance(each, FunctionType) and hasattr(each, "rankzero_impl") for each in members):
            self._register(module, entry_point)
        return found

    def _register(self, module: ModuleType, entry_point: EntryPoint) -> None:
        manager = self.manager
        if manager.is_registered(module):
            return
        try:
            manager.register(module, entry_point.name)
            _check_hooks(manager, module)
        except Exception as error:
            if manager.is_registered(module):
                manager.unregister(module)
            raise _broken(entry_point, _reason(error)) from error

    def _not_found(self, name: str, source: str) -> Exception:
        where = f" (named in {source})" if source else ""
        if name in self._disallowed:
            return UnknownLoggerError(
                f"The logger {name!r}{where} is installed, but {ALLOW_LIST} does not allow it. "
                f"Add it there, or unset {ALLOW_LIST}."
            )
        known = known_loggers()
        if name in known:
            return PluginNotInstalledError(f"The logger {name!r}{where} is not installed. Run: {known[name]}")
        loggers = [each.name for each in self.available().values() if each.kind == "logger"]
        if name in self._found:
            return UnknownLoggerError(
                f"{name!r}{where} is a plugin with hooks, not a logger. Hooks are used without naming the plugin. "
                f"Loggers: {_joined(loggers)}."
            )
        more = _joined(set(known) - set(loggers))
        return UnknownLoggerError(
            f"There is no logger {name!r}{where}.{did_you_mean(name, [*loggers, *known])} "
            f"Installed: {_joined(loggers)}. Can be installed: {more}."
        )


@functools.cache
def get_plugins() -> Plugins:
    """Return the plugins of this environment, searched once; ``get_plugins.cache_clear()`` searches again."""
    return Plugins()


def known_loggers() -> dict[str, str]:
    """Return the loggers of rankzero's extras: name → the command that installs it."""
    known = {}
    for requirement in _requirements(_CORE):
        found = re.match(r"rankzero-([\w-]+)\b[^;]*;.*\bextra == ['\"]([\w-]+)['\"]", requirement)
        if found and found[1] == found[2]:
            known[found[1]] = f'pip install "{_source()}[{found[1]}]"'
    return known


@functools.cache
def _source() -> str:
    """Return where rankzero was installed from: the directory of a checkout, or its name on an index."""
    from importlib.metadata import distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    origin = msgspec.json.decode(distribution(_CORE).read_text("direct_url.json") or "{}")
    path = url2pathname(urlsplit(origin.get("url", "")).path)
    return path if "dir_info" in origin and os.path.isdir(path) else _CORE


def _allowed_names() -> set[str] | None:
    allowed = os.environ.get(ALLOW_LIST)
    return None if allowed is None else {*as_names(allowed)}


def _import(entry_point: EntryPoint) -> ModuleType:
    try:
        return importlib.import_module(entry_point.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        # A missing module of the plugin itself, or of rankzero, is a defect of the plugin.
        if missing in (entry_point.module.partition(".")[0], _CORE):
            raise _broken(entry_point, _reason(error)) from error
        packages = _missing_requirements(entry_point) or missing
        raise PluginNotInstalledError(
            f"The plugin {entry_point.name!r} of {_owner(entry_point)} needs a package that is not installed: "
            f"{str(error).removesuffix('.')}." + (f" Run: pip install {packages}" if packages else ""),
            name=missing,
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(entry_point, _reason(error)) from error


def _missing_requirements(entry_point: EntryPoint) -> str:
    # The name of a distribution may differ from that of its module; the plugin's metadata has it.
    from importlib.metadata import PackageNotFoundError, version

    missing = []
    for requirement in _requirements(entry_point.distribution):
        name = re.match(r"[\w.-]+", requirement)
        if name is None or ";" in requirement:
            continue
        try:
            version(name[0])
        except PackageNotFoundError:
            missing.append(f'"{requirement}"')
    return " ".join(missing)


def _requirements(distribution: str) -> list[str]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return requires(distribution) or []
    except PackageNotFoundError:
        return []


def _check_hooks(manager: pluggy.PluginManager, module: ModuleType) -> None:
    # A wrapper would run around the hooks of other plugins, which would fail with it.
    for caller in manager.get_hookcallers(module) or ():
        for each in caller.get_hookimpls():
            if each.plugin is not module:
                continue
            if each.wrapper or each.hookwrapper:
                raise TypeError(f"{caller.name} is a hook wrapper, which rankzero does not support")
            if not caller.has_spec() and not each.optionalhook:
                names = [name for name in vars(manager.hook) if getattr(manager.hook, name).has_spec()]
                raise TypeError(f"there is no hook {caller.name!r}.{did_you_mean(caller.name, names)}")


def _only(name: str, owners: list[EntryPoint]) -> EntryPoint:
    if len(owners) > 1:
        raise _duplicate(name, owners)
    return owners[0]


def _duplicate(name: str, owners: list[EntryPoint]) -> DuplicatePluginError:
    claims = " and ".join(f"{_owner(each)} ({each.target})" for each in owners)
    return DuplicatePluginError(
        f"Two plugins are called {name!r}: {claims}. Uninstall one of them: "
        + " or ".join(f"pip uninstall {each.distribution}" for each in owners)
    )


def _broken(entry_point: EntryPoint, reason: str) -> BrokenPluginError:
    return BrokenPluginError(
        f"The plugin {entry_point.name!r} of {_owner(entry_point)} cannot be loaded from "
        f"{entry_point.target!r}: {reason}. Update it (pip install --upgrade {entry_point.distribution}), "
        "uninstall it, or tell its authors."
    )


def _owner(entry_point: EntryPoint) -> str:
    return f"{entry_point.distribution} {entry_point.version}".strip()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(".") if str(error) else type(error).__name__


def _joined(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"

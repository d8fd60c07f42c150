"""What `start()` is going to do for each logger, checked before training begins."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rankzero.config.options import LoggerSpec, check_options
from rankzero.config.worker_config import Orders
from rankzero.errors import ConfigError, PluginError, PluginNotInstalledError
from rankzero.loggers.base import Logger
from rankzero.plugins.registry import get_plugins
from rankzero.secrets import expand_secrets, redact, scrub, secret_values
from rankzero.values import to_jsonable

log = logging.getLogger("rankzero")

_SQLITE = "sqlite:///"
_DIRECTORIES = ("save_dir", "dir")

LINGER = 3600.0
"""For how many seconds a courier tries on after the training process is gone."""


class Plan(NamedTuple):
    """How one logger is made, and what is written down of that."""

    spec: LoggerSpec
    logger_class: type[Logger] | None
    """None for a plugin that is not installed on this machine, with ``delivery="off"``."""
    args: tuple[Any, ...]
    options: dict[str, Any]
    """Expanded."""
    secrets: list[str]
    recorded: dict[str, Any]
    """What the journal says of the logger."""
    captures: frozenset[str] = frozenset()
    """What is to be recorded for it: see `Logger.captures`."""

    @property
    def needs_thread(self) -> bool:
        """Whether another process could not make this logger."""
        try:
            # What the script itself defines is pickled as __main__.NAME, and __main__ is another module there.
            return b"__main__" in pickle.dumps((self.spec.plugin or self.logger_class, self.args, self.options))
        except Exception:
            return True

    def orders(self, run_dir: Path, *, in_thread: bool) -> Orders:
        """Return what a courier is to be told."""
        logger: Any = self.spec.plugin or self.logger_class
        if in_thread and self.spec.instance is not None:
            logger = self.spec.instance
        return Orders(run_dir, self.spec.key, logger, self.args, self.options, self.secrets, LINGER, list(sys.path))


def plan(spec: LoggerSpec, delivery: str) -> Plan:
    """Find the logger's class and check its options.

    Raises:
        ConfigError: an option is unknown, missing or refused by the logger, or a secret is not set.
        PluginError: the logger cannot be loaded, or lacks a package.
    """
    if spec.instance is not None:
        return _plan_instance(spec, delivery)
    assert spec.plugin is not None
    written = with_absolute_paths(spec.options)
    plain = _written_out(written)
    try:
        logger_class = get_plugins().load_logger(spec.plugin, spec.source)
    except PluginNotInstalledError:
        if delivery != "off":
            raise
        return Plan(spec, None, (), {}, [], _record(spec.plugin, plain))
    check_options(spec, logger_class)
    _check_verbs(logger_class)
    recorded = _record(spec.plugin, plain, logger_class.secret_options)
    if delivery == "off":
        return _plan_for_later(spec, logger_class, written, recorded)
    options, secrets = reveal(msgspec.structs.replace(spec, options=written), logger_class.secret_options)
    secrets = sorted({*secrets, *secret_values(plain, logger_class.secret_options, spec.source)}, key=len, reverse=True)
    logger = try_making(spec, lambda: logger_class(**options), secrets)
    if logger is None:
        return Plan(spec, logger_class, (), options, secrets, recorded, logger_class.captures)
    check_login(spec, logger, secrets)
    fixed = _fix(logger, options, recorded)
    return Plan(spec, logger_class, (), options | fixed, secrets, recorded, logger.captures)


def _plan_for_later(
    spec: LoggerSpec, logger_class: type[Logger], options: Mapping[str, Any], recorded: dict[str, Any]
) -> Plan:
    """Plan for a logger that nobody delivers to yet, and that perhaps cannot be made here: a secret may be missing."""
    captures = logger_class.captures
    try:
        logger = logger_class(**expand_secrets(options, spec.source))
        _fix(logger, options, recorded)
        captures = logger.captures
    except Exception as error:
        log.debug("%s cannot be made here: %s", spec.plugin, type(error).__name__)
    return Plan(spec, logger_class, (), {}, [], recorded, captures)


def _fix(logger: Logger, options: Mapping[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the environment decides, and record them."""
    try:
        fixed = {name: value for name, value in logger.resolved_options().items() if name not in options}
    except Exception as error:
        log.debug("what the environment decides for %s is not known: %s", recorded["plugin"], type(error).__name__)
        return {}
    recorded["options"] |= redact(to_jsonable(fixed), type(logger).secret_options)
    return fixed


def check_login(spec: LoggerSpec, logger: Logger, secrets: Iterable[str]) -> None:
    """Ask the tracker whether it accepts the user.

    Raises:
        ConfigError: it does not; the message says which logger is meant.
    """
    try:
        logger.check_login()
    except ConfigError as error:
        raise ConfigError(f"{spec.source}: {scrub(str(error), secrets)}") from None
    except Exception as error:  # the tracker, perhaps, which is no reason not to train
        log.debug("%s could not tell whether the login is right: %s", spec.key, type(error).__name__)


def try_making(spec: LoggerSpec, make: Callable[[], Logger], secrets: Iterable[str]) -> Logger | None:
    """Make the logger as its courier will: a constructor opens nothing, but may refuse what it is given.

    Returns:
        The logger; None if it cannot be made now.

    Raises:
        ConfigError: the constructor refuses its arguments.
        PluginNotInstalledError: a package that it needs is missing.
    """
    try:
        return make()
    except (TypeError, ValueError, LookupError, ModuleNotFoundError) as error:
        reason = scrub(str(error), secrets)
        kind = PluginNotInstalledError if isinstance(error, ModuleNotFoundError) else ConfigError
        raise kind(f"{spec.source}: the logger {spec.plugin!r} cannot be made: {reason}") from None
    except Exception as error:  # something outside, perhaps: the courier tries again
        log.debug("%s could not be made now: %s", spec.plugin, type(error).__name__)
        return None


def reveal(spec: LoggerSpec, secret_names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options with each ``${NAME}`` put in, and the values among them that must not be shown.

    Raises:
        MissingSecretError: a variable is not set; the message says where the option stands.
    """
    options: dict[str, Any] = {}
    secrets: set[str] = set()
    for name, value in spec.options.items():
        written = {name: value}
        options |= expand_secrets(written, spec.where(name))
        secrets.update(secret_values(written, secret_names, spec.where(name)))
    return options, sorted(secrets, key=len, reverse=True)


def _plan_instance(spec: LoggerSpec, delivery: str) -> Plan:
    kind = type(spec.instance)
    if not isinstance(spec.instance, Logger):
        raise ConfigError(
            f"{spec.source}: {kind.__module__}.{kind.__qualname__} is no rankzero.Logger; use the rankzero logger "
            "of the same name, or derive your class from rankzero.Logger"
        )
    _check_verbs(kind)
    args, options = spec.instance._constructor
    given = _arguments(kind, args, options)
    secrets = secret_values(_written_out(given), kind.secret_options, spec.source)
    recorded = _record_instance(kind, given)
    if delivery == "off" and "plugin" not in recorded:
        log.warning(
            "nobody delivers to the logger %r, and no command can do it later: no plugin provides %s. Give it a name "
            "with an entry point, or deliver from Python: rankzero.deliver(run_dir, logger)",
            spec.key, recorded["class"],
        )  # fmt: skip
    if "plugin" in recorded:
        _fix(spec.instance, given, recorded)
    if delivery != "off":
        check_login(spec, spec.instance, secrets)
    return Plan(spec, kind, args, dict(options), secrets, recorded, spec.instance.captures)


def _check_verbs(kind: type[Logger]) -> None:
    """Refuse a logger whose required verbs could not be called, which would show only when it is delivered to."""
    for verb, given in (("log_metrics", {"metrics": {}, "step": 0}), ("log_hyperparams", {})):
        positional: tuple[Any, ...] = () if given else ({},)
        try:
            inspect.signature(getattr(kind, verb)).bind(None, *positional, **given)
        except TypeError as error:
            expected = "log_metrics(self, metrics, step=None)" if given else "log_hyperparams(self, params)"
            raise ConfigError(
                f"{kind.__module__}.{kind.__qualname__}.{verb} cannot be called as a logger's verb: {error}. "
                f"Write it as {expected}."
            ) from None


def _arguments(kind: type[Logger], args: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return by name what a constructor was given."""
    signature = inspect.signature(kind.__init__)
    given = signature.bind_partial(None, *args, **options).arguments
    given.pop(next(iter(signature.parameters)))
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def _record_instance(kind: type[Logger], given: Mapping[str, Any]) -> dict[str, Any]:
    plugin = _plugin_of(kind)
    if plugin is None:
        return {"class": f"{kind.__module__}:{kind.__qualname__}"}
    return _record(plugin, _written_out(with_absolute_paths(given)), kind.secret_options)


def _written_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they can be written down; a secret in an object is seen then.

    Of a model of pydantic's that is what was set: the defaults are those of the SDK, wherever it is used.
    """
    given = {
        name: {field: getattr(value, field) for field in value.model_fields_set}
        if hasattr(value, "model_fields_set")
        else value
        for name, value in options.items()
    }
    plain: dict[str, Any] = to_jsonable(given)
    return plain


def _record(plugin: str, written: Mapping[str, Any], secret_names: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the journal may say of a logger, and the names of the options that it may not hold."""
    kept = redact(written, secret_names)
    left_out = [name for name in written if name not in kept]
    return {"plugin": plugin, "options": kept} | ({"left_out": left_out} if left_out else {})


def _plugin_of(kind: type[Logger]) -> str | None:
    """Return the name under which a plugin provides this very class, so that ``rankzero sync`` can make it again."""
    package = kind.__module__.partition(".")[0]
    plugins = get_plugins()
    for name, info in plugins.available().items():
        if info.kind == "logger" and info.target.partition(":")[0].partition(".")[0] == package:
            try:
                if plugins.load_logger(name) is kind:
                    return name
            except PluginError:
                continue
    return None


def with_absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that mean the same in whichever directory a later courier is started.

    ``save_dir`` and ``dir`` are made absolute, and so is the path in a URL of SQLite, ``sqlite:///PATH``.
    """
    return {name: _absolute(value, is_path=name in _DIRECTORIES) for name, value in options.items()}


def _absolute(value: Any, *, is_path: bool) -> Any:
    if is_path and isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        is_relative = not (os.path.isabs(path) or path.startswith(("~", "$")) or "://" in path)
        return os.path.abspath(path) if is_relative else path
    if isinstance(value, str) and value.startswith(_SQLITE):
        path = value.removeprefix(_SQLITE)
        return value if path.startswith(("/", ":", "$")) or not path else _SQLITE + os.path.abspath(path)
    return value

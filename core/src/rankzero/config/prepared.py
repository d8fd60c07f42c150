"""Prepare loggers: turn a name with options into a logger that a worker process can make."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rankzero.config.logger_options import LoggerSpec, check_options, check_types
from rankzero.errors import ConfigError, PluginError, PluginNotInstalledError
from rankzero.loggers.base import Logger
from rankzero.plugins.registry import get_plugins
from rankzero.secrets import expand_secrets, redact, scrub, secret_values
from rankzero.values import to_jsonable

log = logging.getLogger("rankzero")

_SQLITE = "sqlite:///"
_DIRECTORIES = ("save_dir", "dir")


@dataclass(frozen=True)
class PreparedLogger:
    """All that a worker needs to make a logger, and the record of the logger for the journal."""

    key: str
    """The key, unique in the run; names the position file."""
    kind: str | type[Logger]
    """The name of the plugin that provides the class, or the class."""
    args: tuple[Any, ...] = field(default=(), repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """The keyword arguments of the constructor, with secrets expanded."""
    secrets: list[str] = field(default_factory=list, repr=False)
    """The values that no message may show."""
    instance: Logger | None = None
    """The logger that the user made, for a courier in this process; another process makes one from the arguments."""
    recorded: dict[str, Any] = field(default_factory=dict)
    """The record of the logger for the journal."""
    captures: frozenset[str] = frozenset()
    """What to capture for it: see `Logger.captures`."""
    source: str = ""
    """Where it was requested, for messages."""
    online: bool = False
    """Whether it delivers even if its options set it offline."""

    @property
    def logger_class(self) -> type[Logger]:
        """The class; imports its plugin if necessary."""
        return get_plugins().load_logger(self.kind, self.source) if isinstance(self.kind, str) else self.kind

    def make(self) -> Logger:
        """Make the logger, or return the one that the user made."""
        if self.instance is not None:
            return self.instance
        logger = self.logger_class(*self.args, **self.options)
        if self.online:
            logger.go_online()
        return logger

    @property
    def needs_thread(self) -> bool:
        """Whether only this process can make the logger."""
        try:
            # A class of the script itself is pickled as __main__.NAME, and __main__ is another module in a worker.
            return b"__main__" in pickle.dumps((self.kind, self.args, self.options))
        except Exception:
            return True

    def for_process(self) -> PreparedLogger:
        """Return a copy without the instance, which can be pickled."""
        return replace(self, instance=None)


def prepare(spec: LoggerSpec, *, online: bool = False) -> PreparedLogger:
    """Find a logger's class, check its options and expand the secrets among them.

    Args:
        spec: the requested logger.
        online: deliver even if its options set it offline.

    Raises:
        ConfigError: an option is unknown, missing or of a wrong type, or a secret is not set; the message says where.
        PluginError: the logger cannot be loaded, or a package that it needs is missing.
    """
    return replace(_with_options(spec, _describe(spec)), online=online)


def prepare_for_later(spec: LoggerSpec) -> PreparedLogger:
    """Prepare a logger for a later delivery: a package or a secret that it needs may be missing here.

    Raises:
        ConfigError: an option is unknown or missing.
        PluginError: the logger cannot be loaded, or there is no logger of that name.
    """
    try:
        described = _describe(spec)
    except PluginNotInstalledError:
        return PreparedLogger(spec.key, str(spec.plugin), recorded=_record(str(spec.plugin), spec.options))
    if "class" in described.recorded:
        log.warning(
            "no courier delivers to the logger %r, and no command can later: no plugin provides %s. Give it a name "
            "with an entry point, or deliver from Python: rankzero.deliver(run_dir, logger)",
            spec.key, described.recorded["class"],
        )  # fmt: skip
    try:
        prepared = _with_options(spec, described)
        return _with_environment(prepared, prepared.make())
    except Exception as error:
        log.debug("%s cannot be made here: %s", spec.key, type(error).__name__)
        return described


def verify(prepared: PreparedLogger) -> PreparedLogger:
    """Make the logger once, as its worker will, and check the login to its tracker.

    Returns:
        A copy with the options that the environment sets.

    Raises:
        ConfigError: the constructor rejects its arguments, or the tracker rejects the login.
        PluginNotInstalledError: a package that the logger needs is missing.
    """
    logger = _try_making(prepared)
    if logger is None:
        return prepared
    try:
        logger.check_login()
    except ConfigError as error:
        raise ConfigError(f"{prepared.source}: {scrub(str(error), prepared.secrets)}") from None
    except Exception as error:  # the tracker may be down, which must not prevent training
        log.debug("the login to %s could not be checked: %s", prepared.key, type(error).__name__)
    return _with_environment(prepared, logger)


def _describe(spec: LoggerSpec) -> PreparedLogger:
    """Describe a logger without its secrets: it cannot be made yet, unless the user made it."""
    if spec.instance is not None:
        return _describe_instance(spec)
    assert spec.plugin is not None
    logger_class = get_plugins().load_logger(spec.plugin, spec.source)
    check_options(spec, logger_class)
    _check_verbs(logger_class)
    return PreparedLogger(
        spec.key,
        spec.plugin,
        recorded=_record(spec.plugin, spec.options, logger_class.secret_options),
        captures=logger_class.captures,
        source=spec.source,
    )


def _describe_instance(spec: LoggerSpec) -> PreparedLogger:
    kind = type(spec.instance)
    if not isinstance(spec.instance, Logger):
        raise ConfigError(
            f"{spec.source}: {kind.__module__}.{kind.__qualname__} is not a rankzero.Logger; use the rankzero logger "
            "of the same name, or derive your class from rankzero.Logger"
        )
    _check_verbs(kind)
    args, options = spec.instance._constructor
    given = _arguments(kind, args, options)
    plugin = _plugin_of(kind)
    return PreparedLogger(
        spec.key,
        kind,
        args,
        dict(options),
        secret_values(_written_out(given), kind.secret_options, spec.source),
        spec.instance,
        _record(plugin, given, kind.secret_options) if plugin else {"class": f"{kind.__module__}:{kind.__qualname__}"},
        spec.instance.captures,
        spec.source,
    )


def _with_options(spec: LoggerSpec, described: PreparedLogger) -> PreparedLogger:
    """Add the options with each ``${NAME}`` expanded, and the secret values among them."""
    if spec.instance is not None:  # it has them
        return described
    secret_names = described.logger_class.secret_options
    options: dict[str, Any] = {}
    secrets: set[str] = set()
    for name, value in with_absolute_paths(spec.options).items():
        options |= expand_secrets({name: value}, spec.where(name))
        secrets.update(secret_values(_written_out({name: value}), secret_names, spec.where(name)))
    options = check_types(spec, described.logger_class, options)
    return replace(described, options=options, secrets=sorted(secrets, key=len, reverse=True))


def _with_environment(prepared: PreparedLogger, logger: Logger) -> PreparedLogger:
    """Add the options that the environment sets, also to the record."""
    recorded, options = prepared.recorded, prepared.options
    if "plugin" in recorded:
        given = {*recorded["options"], *recorded.get("left_out", ())}
        try:
            resolved = {name: value for name, value in logger.resolved_options().items() if name not in given}
        except Exception as error:
            log.debug("the options of %s from the environment are unknown: %s", prepared.key, type(error).__name__)
            resolved = {}
        kept = redact(to_jsonable(resolved), type(logger).secret_options)
        recorded = {**recorded, "options": recorded["options"] | kept}
        if prepared.instance is None:
            options = options | resolved
    return replace(prepared, options=options, recorded=recorded, captures=logger.captures)


def _try_making(prepared: PreparedLogger) -> Logger | None:
    """Make the logger; raise if the constructor rejects its arguments, return None if it fails for another reason."""
    try:
        return prepared.make()
    except (TypeError, ValueError, LookupError, ModuleNotFoundError) as error:
        reason = scrub(str(error), prepared.secrets)
        kind = PluginNotInstalledError if isinstance(error, ModuleNotFoundError) else ConfigError
        raise kind(f"{prepared.source}: the logger {prepared.kind!r} cannot be made: {reason}") from None
    except Exception as error:  # perhaps for an external reason: the courier retries
        log.debug("%s could not be made now: %s", prepared.key, type(error).__name__)
        return None


def _check_verbs(kind: type[Logger]) -> None:
    """Raise if the required verbs of a logger class have wrong signatures, before the first delivery."""
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
    """Return the arguments of a constructor by name."""
    signature = inspect.signature(kind.__init__)
    given = signature.bind_partial(None, *args, **options).arguments
    given.pop(next(iter(signature.parameters)))
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def _record(plugin: str, options: Mapping[str, Any], secret_names: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the record of a logger for the journal, with the names of the secret options that are left out."""
    written = _written_out(with_absolute_paths(options))
    kept = redact(written, secret_names)
    left_out = [name for name in written if name not in kept]
    return {"plugin": plugin, "options": kept} | ({"left_out": left_out} if left_out else {})


def _written_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON-compatible values, so that secrets inside objects are found.

    A pydantic model is written without its defaults, which the SDK sets wherever it is used.
    """
    given = {
        name: {field: getattr(value, field) for field in value.model_fields_set}
        if hasattr(value, "model_fields_set")
        else value
        for name, value in options.items()
    }
    plain: dict[str, Any] = to_jsonable(given)
    return plain


def _plugin_of(kind: type[Logger]) -> str | None:
    """Return the name of the plugin that provides this class, so that ``rankzero sync`` can make the logger again."""
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
    """Return options that do not depend on the working directory of a later courier.

    Makes ``save_dir`` and ``dir`` absolute, and the path in a SQLite URL, ``sqlite:///PATH``.
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

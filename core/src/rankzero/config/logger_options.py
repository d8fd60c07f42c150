"""Options of loggers: check them against the constructor, and keep their secrets out of files and messages.

A config refers to a secret as ``${NAME}``, the name of an environment variable, or ``${NAME:-default}``. It is
expanded only when the logger is made. ``$${NAME}`` is the text ``${NAME}`` itself. No message shows an option's value.
The type of a number, text, boolean or path must be that of the constructor's annotation; a number may be a text.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterable
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from rankzero.errors import ConfigError, UnknownOptionError
from rankzero.messages import VERY_SIMILAR, nearest

START = "start()"
"""The `LoggerSpec.source` of loggers passed to ``rankzero.start()``."""

START_PARAMETERS = (
    "loggers", "project", "name", "group", "parent", "tags", "notes", "config", "dir", "run_id", "resume",
    "resume_step", "fork_from", "fork_step", "delivery", "finish_timeout", "down_timeout", "capture_environment",
    "system_metrics",
)  # fmt: skip

_SCALARS = (bool, int, float, str)


class LoggerSpec(msgspec.Struct):
    """One requested logger with its options as they were written."""

    key: str
    """The key, unique in the run: ``csv``, ``csv-2``."""
    plugin: str | None = None
    """The name of the entry point; None if the user made the logger."""
    options: dict[str, Any] = {}
    """The options as written: ``${NAME}`` is not expanded."""
    instance: Any = None
    """The logger that the user made."""
    source: str = START
    """Where it was requested: ``start()``, ``RANKZERO_LOGGERS``, ``rankzero.toml``, …"""
    option_sources: dict[str, str] = {}
    """Option → where it was set, if not in ``source``."""

    def where(self, option: str) -> str:
        """Return where an option was set."""
        return self.option_sources.get(option, self.source)

    def __repr__(self) -> str:
        # Without the values of the options, which may be secrets.
        made = "" if self.instance is None else f", instance={type(self.instance).__name__}"
        options = ", ".join(self.options)
        return f"LoggerSpec({self.key!r}, plugin={self.plugin!r}, options=[{options}]{made}, {self.source!r})"


def check_options(spec: LoggerSpec, logger_class: type[Any]) -> None:
    """Check that the constructor of ``logger_class`` takes the options of ``spec``.

    A constructor with ``**kwargs`` accepts every option that does not look like a misspelled parameter. A class with
    ``known_options``, a frozenset of names, lists the options that its ``**kwargs`` accepts.

    Raises:
        UnknownOptionError: the constructor does not take an option.
        ConfigError: a required option is missing.
    """
    if spec.instance is not None:
        return
    import inspect

    # The signature of object.__init__ accepts everything, and calling it with anything fails.
    has_own = logger_class.__init__ is not object.__init__
    parameters = list(inspect.signature(logger_class.__init__).parameters.values())[1:] if has_own else []
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known = {each.name for each in named} | set(getattr(logger_class, "known_options", ()))
    is_open = any(each.kind is each.VAR_KEYWORD for each in parameters)
    anything_goes = is_open and not hasattr(logger_class, "known_options")
    for option in spec.options:
        if option not in known and not (anything_goes and not nearest(option, known, VERY_SIMILAR)):
            raise UnknownOptionError(_unknown_option(spec, option, known))
    missing = [each.name for each in named if each.default is each.empty and each.name not in spec.options]
    if missing:
        raise ConfigError(
            f"{spec.source}: the logger {spec.plugin!r} needs {_quoted(missing)}, which was not given. "
            f'Write it in its options: loggers={{"{spec.plugin}": {{"{missing[0]}": ...}}}}'
        )


def check_types(spec: LoggerSpec, logger_class: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Check numbers, texts, booleans and paths among options against the annotations of the constructor.

    A number may be written as a text, as YAML reads ``1e-3``; it is converted.

    Raises:
        ConfigError: an option has a wrong type.
    """
    try:
        hints = get_type_hints(logger_class.__init__)
    except Exception:  # the annotations name what is imported only for type checkers
        return options
    return {
        name: _converted(spec, name, value, hints[name]) if name in hints else value for name, value in options.items()
    }


def _converted(spec: LoggerSpec, name: str, value: Any, hint: Any) -> Any:
    kinds = {str if get_origin(each) is os.PathLike else each for each in (get_args(hint) or (hint,))}
    if type(value) not in _SCALARS or type(value) in kinds or not kinds <= {*_SCALARS, NoneType}:
        return value
    try:
        return msgspec.convert(value, functools.reduce(operator.or_, kinds), strict=False)
    except msgspec.ValidationError:
        allowed = " or ".join(sorted(each.__name__ for each in kinds - {NoneType}))
        raise ConfigError(
            f"{spec.where(name)}: the option {name!r} of the logger {spec.plugin!r} must be {allowed}, "
            f"not {type(value).__name__}"
        ) from None


def _unknown_option(spec: LoggerSpec, option: str, known: Iterable[str]) -> str:
    where = spec.where(option)
    found = nearest(option, known)
    hint = f" Did you mean {found!r}?" if found else ""
    if not found and where == START and (found := nearest(option, START_PARAMETERS)):
        hint = f" Did you mean start({found}=...)?"
    return (
        f"{where}: the logger {spec.plugin!r} has no option {option!r}.{hint} "
        f"Its options: {', '.join(sorted(known)) or 'none'}."
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))

"""The options of a tracker's logger, declared as a table with environment variables, types and secrets.

.. code-block:: python

    class AcmeOptions(Options):
        table = (
            Option("api_key", variable="ACME_API_KEY", secret=True),
            Option("project", kind=str, variable="ACME_PROJECT", kept=True),
            Option("mode", choices=("online", "offline")),
        )
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from rankzero.errors import ConfigError
from rankzero.messages import did_you_mean

_KINDS: dict[type, str] = {str: "a text", bool: "True or False"}


class Option(msgspec.Struct, frozen=True):
    """One argument of a logger's constructor."""

    name: str
    kind: type | None = None
    """The required type, ``str`` or ``bool``; None for any."""
    choices: tuple[Any, ...] = ()
    """The allowed values; any if empty."""
    variable: str | None = None
    """The environment variable to use if the option is not given."""
    early: bool = False
    """Whether the variable is read when the logger is made, and not when the option is used."""
    kept: bool = False
    """Whether the variable's value is recorded with a run, so that a later delivery has the same destination.

    Never true for a secret.
    """
    local: bool = False
    """Whether the delivering user's variable applies if the run has no recorded value, as for a server's address."""
    secret: bool = False
    """Whether the value must not appear in any file or message."""


class Options:
    """The options of a logger, from arguments and environment variables. Immutable; can be pickled.

    A subclass defines the table, and properties that depend on several options.

    Args:
        given: the arguments by name; None counts as not given. An option ``environment``, a mapping of variables,
            replaces the environment of this process.
    """

    table: ClassVar[tuple[Option, ...]] = ()
    kept_variables: ClassVar[tuple[str, ...]] = ()
    """Variables that are recorded with a run although no option has the same meaning."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        """The options that were given."""
        self._early = {
            option.variable: os.environ.get(option.variable)
            for option in self.table
            if option.early and option.variable is not None
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.given)})"  # without values, which may be secrets

    def __getitem__(self, name: str) -> Any:
        """Return the value of an option, or else of its variable; None if neither is set."""
        if name in self.given:
            return self.given[name]
        variable = next(option.variable for option in self.table if option.name == name)
        return None if variable is None else self.variable(variable)

    def variable(self, name: str) -> str | None:
        """Return an environment variable, preferring the recorded value; None if it is not set or empty."""
        environment: Mapping[str, str] | None = self.given.get("environment")
        if environment is not None:
            is_local = any(option.local and option.variable == name for option in self.table)
            return environment.get(name) or (self.lookup(name) if is_local else None) or None
        return (self._early[name] if name in self._early else self.lookup(name)) or None

    def lookup(self, variable: str) -> str | None:
        """Return a variable of this process. Override it for an SDK that also has configuration files."""
        return os.environ.get(variable)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with changed options; None removes one."""
        copy = type(self)({**self.given, **changes})
        copy._early = self._early
        return copy

    def resolved(self) -> dict[str, Any]:
        """Return the constructor arguments set by the environment, to record with a run."""
        kept = {option.name: option.variable for option in self.table if option.kept and option.variable is not None}
        if any(option.name == "environment" for option in self.table):
            named = [*kept.values(), *self.kept_variables]
            return {"environment": {name: value for name in sorted(named) if (value := self.variable(name))}}
        return {
            name: value
            for name, variable in kept.items()
            if not self.given.get(name) and (value := self.variable(variable))
        }

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of all options."""
        return frozenset(option.name for option in cls.table)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """Return the names of the options that must never be written to disk."""
        return frozenset(option.name for option in cls.table if option.secret)

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        """Check that all options are known and have valid values. A subclass may check more.

        Args:
            logger: the name of the logger's class, for messages.
            others: arguments of its constructor that are not in the table.

        Raises:
            ConfigError: an option is unknown or invalid.
        """
        unknown = sorted(self.given.keys() - self.names())
        if unknown:
            known = self.names().union(others)
            raise ConfigError(
                f"{logger} takes no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)} "
                f"It takes: {', '.join(sorted(known))}"
            )
        for option in self.table:
            if option.name in self.given:
                check_option(option, self.given[option.name])


def check_option(option: Option, value: Any) -> None:
    """Check the value of an option.

    Raises:
        ConfigError: the value is invalid; the message lists the allowed ones.
    """
    if option.kind is not None and not isinstance(value, option.kind):
        shown = "" if option.secret else f", not {value!r}"
        raise ConfigError(f"{option.name} must be {_KINDS[option.kind]}{shown}")
    if option.choices and value not in option.choices:
        listed = ", ".join(map(repr, option.choices))
        raise ConfigError(
            f"{option.name} must be one of {listed}, not {value!r}.{did_you_mean(str(value), map(str, option.choices))}"
        )

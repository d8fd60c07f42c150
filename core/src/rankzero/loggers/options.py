"""The options of a tracker's logger, declared as a table: where else each may come from, and what may be kept of it.

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
    """``str`` or ``bool``, if it must be that."""
    choices: tuple[Any, ...] = ()
    """The values that it may have; any if empty."""
    variable: str | None = None
    """The environment variable that counts where the option is not given."""
    early: bool = False
    """Whether the variable is read when the logger is made, not when the option is used."""
    kept: bool = False
    """Whether the variable's value is kept with a run, so that it is delivered to the same destination from elsewhere.

    Never true of a secret.
    """
    local: bool = False
    """Whether the variable of whoever delivers counts where the run's own is not known: a server's address."""
    secret: bool = False
    """Whether it must be in no file and in no message."""


class Options:
    """What a user asked for: arguments of a logger, and environment variables. It can be pickled, and does not change.

    A subclass has the table, and properties for what follows from several options.

    Args:
        given: the arguments by name; None counts as not given. If there is an option ``environment``, a mapping of
            variables, it counts instead of this process's environment.
    """

    table: ClassVar[tuple[Option, ...]] = ()
    kept_variables: ClassVar[tuple[str, ...]] = ()
    """Variables that are kept with a run although no option has the same meaning."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        """The options that were given."""
        self._early = {
            option.variable: os.environ.get(option.variable)
            for option in self.table
            if option.early and option.variable is not None
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.given)})"  # no values: one of them may be a secret

    def __getitem__(self, name: str) -> Any:
        """Return an option as given, or else what its variable says; None if neither is there."""
        if name in self.given:
            return self.given[name]
        variable = next(option.variable for option in self.table if option.name == name)
        return None if variable is None else self.variable(variable)

    def variable(self, name: str) -> str | None:
        """Return an environment variable, that of the training process if it was kept; None if not set or empty."""
        environment: Mapping[str, str] | None = self.given.get("environment")
        if environment is not None:
            is_local = any(option.local and option.variable == name for option in self.table)
            return environment.get(name) or (self.lookup(name) if is_local else None) or None
        return (self._early[name] if name in self._early else self.lookup(name)) or None

    def lookup(self, variable: str) -> str | None:
        """Return a variable of this process. Override it for an SDK that has files of settings, too."""
        return os.environ.get(variable)

    def replace(self, **changes: Any) -> Self:
        """Return the same options with others instead of some; None takes one away."""
        copy = type(self)({**self.given, **changes})
        copy._early = self._early
        return copy

    def resolved(self) -> dict[str, Any]:
        """Return the constructor arguments to keep with a run, for what the environment decides."""
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
        """Return the names of those that must never be written to disk."""
        return frozenset(option.name for option in cls.table if option.secret)

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        """Raise if an option is unknown or has a wrong value. A subclass may check more.

        Args:
            logger: the name of the logger's class, for messages.
            others: arguments of its constructor that are not in the table.

        Raises:
            ConfigError: the message says what is wrong.
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
    """Raise unless an option may have this value.

    Raises:
        ConfigError: the message says what it may be.
    """
    if option.kind is not None and not isinstance(value, option.kind):
        shown = "" if option.secret else f", not {value!r}"
        raise ConfigError(f"{option.name} is {_KINDS[option.kind]}{shown}")
    if option.choices and value not in option.choices:
        listed = ", ".join(map(repr, option.choices))
        raise ConfigError(
            f"{option.name} is one of {listed}, not {value!r}.{did_you_mean(str(value), map(str, option.choices))}"
        )

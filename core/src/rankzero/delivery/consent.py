"""Consent: ask before another user's run is delivered to a destination that its journal names.

The options of a logger in a journal may send the user's credentials to any server, or write to any file. So for a run
that this user did not start (see `rankzero.events.seals`), options that name a destination are used only if the user's
own configuration contains them, or the user agrees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rankzero.config.prepared import prepare_for_later, with_absolute_paths
from rankzero.config.resolving import resolve
from rankzero.errors import ConfigError, RankzeroError, UntrustedRunError
from rankzero.secrets import is_secret

Consent = Callable[[str], bool]
"""Takes a sentence that names the destination; returns whether the user agrees."""

_NAMES_DESTINATION = re.compile(
    r"ur[il]|host|domain|endpoint|server|addr|proxy|port$|socket|dir|path|file|root|location|bucket"
    r"|ssl|tls|verify|cert|insecure"
)
_IS_HARMLESS = re.compile(r"(?!.*\.\.)[\w .,;+=()\[\]#!-]{0,200}")  # neither a path nor a URL nor a variable


def foreign_options(plugin: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a journal that name a destination and are not in the user's own configuration."""
    named = {name: value for name, value in written.items() if _names_destination(name, value)}
    own = own_options(plugin) if named else {}
    return {name: value for name, value in named.items() if name not in own or own[name] != value}


def own_options(plugin: str) -> dict[str, Any]:
    """Return a logger's options from this machine's config files and environment, as `start` records them."""
    spec = resolve({plugin: {}}).loggers[0]
    try:
        options: dict[str, Any] = prepare_for_later(spec).recorded["options"]
        return options
    except RankzeroError:  # the logger cannot be made from them
        return with_absolute_paths(spec.options)


def ask_for_consent(run: str, plugin: str, foreign: Mapping[str, Any], consent: Consent | None) -> None:
    """Ask for consent to deliver a run to the destination in its journal.

    Raises:
        UntrustedRunError: the user does not agree, or cannot be asked.
    """
    listed = ", ".join(f"{name}={value!r}" for name, value in foreign.items())
    what = f"you did not start {run} here, and its journal sends it to {plugin} with {listed}"
    if consent is None:
        raise UntrustedRunError(
            f"{what}. If you know that destination and trust the author of the run, add --trust; with "
            f"--to {plugin} it goes where your own configuration sends it"
        )
    if not consent(what):
        raise UntrustedRunError(f"{run} is not delivered to {plugin}: you did not agree")


def check_references(
    source: str, plugin: str, written: Mapping[str, Any], given: Iterable[str], secret_names: Iterable[str]
) -> None:
    """Raise if a journal would send an environment variable, which may be a secret, to the tracker.

    Raises:
        ConfigError: an option that is not a secret contains ``${NAME}``.
    """
    for option, value in written.items():
        if option in given or is_secret(option, secret_names):
            continue
        for text in _texts(value):
            if "${" in text:
                raise ConfigError(
                    f"{source}: the option {option!r} of {plugin} names an environment variable ({text!r}), which a "
                    f"run that you did not start here may not do; give it yourself: -o {option}=..."
                )


def _names_destination(name: str, value: Any) -> bool:
    if value is None or value == "":
        return False
    return (
        bool(_NAMES_DESTINATION.search(name.lower()))
        or isinstance(value, Mapping)  # settings of an SDK, which may contain anything
        or not all(_IS_HARMLESS.fullmatch(text) for text in _texts(value))
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield name
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)

"""Secrets: find them by name, expand them from the environment, mask them in files and messages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rankzero.errors import MissingSecretError

_LEFT_OUT: Any = object()

_REFERENCE = re.compile(r"\$?\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")
# A secret that consists only of references, perhaps after the scheme of an Authorization header.
_ONLY_REFERENCES = re.compile(r"(?:(?:bearer|basic|token) )?(?:\$\{[A-Za-z_]\w*\})+", re.IGNORECASE)
_SECRET_WORDS = (
    r"(?:api_?key|access_?key|private_?key|token|password|passwd|passphrase|pwd|secret|credentials?|auth|authorization)"
)
_SECRET_NAME = re.compile(rf"{_SECRET_WORDS}$")
# Hyperparameters called pad_token or mask_token are not secrets.
_SECRET_PARAM = re.compile(
    _SECRET_WORDS.replace("token", "(?<![a-z_])token|(?:api|access|auth|bearer|hf|hub|git(?:hub|lab)|refresh)_?token")
    + "$"
)
_SECRET_IN_URL = re.compile(
    r"\w://[^/@\s:]*:((?!\d+/)[^@\s]+)@"  # a password may contain a slash; a slash also follows a port
    r"|https?://([^/@\s:$]+)@"  # a token instead of a user name
    rf"|[?&;]{_SECRET_WORDS.replace('_?', '[-_]?')}=((?!\$\{{)[^&;#\s\"']+)",
    re.IGNORECASE,
)
_LITERAL = re.compile(r"""([A-Za-z_][\w.-]*)(["']?\s*[=:]\s*)(["'])([^"'\s]{8,})\3""")
MASK = "***"
"""The text that replaces a secret."""


def expand_secrets(options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the options with each ``${NAME}`` replaced by that environment variable, at any depth.

    Args:
        options: a logger's options; they are not changed.
        source: where the options were set, for the error message.

    Raises:
        MissingSecretError: ``${NAME}`` without a default, and NAME is not set.
    """

    def expand(path: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return _REFERENCE.sub(lambda found: _look_up(found, path, source), value)

    expanded: dict[str, Any] = _walk(options, expand)
    return expanded


def _look_up(found: re.Match[str], option: str, source: str) -> str:
    name, default = found.groups()
    if found[0].startswith("$$"):
        return found[0][1:]
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise MissingSecretError(
            f"{source}: the option {option!r} needs the environment variable {name}, which is not set. "
            f"Set it (export {name}=...), or give a default: ${{{name}:-...}}."
        )
    return value


def is_secret(option: str, declared: Iterable[str] = ()) -> bool:
    """Return whether an option holds a secret: its plugin declares it, or its name shows it (``api_key``).

    >>> is_secret("api_token"), is_secret("token_count")
    (True, False)
    """
    return option in declared or _SECRET_NAME.search(option.lower().replace("-", "_")) is not None


def redact(options: Mapping[str, Any], secret_names: Iterable[str] = ()) -> dict[str, Any]:
    """Return the options without the values of secrets, so that they may be written to disk.

    ``${NAME}`` is kept. A secret given as plain text is left out with its key, at any depth, and so is a default in
    ``${NAME:-default}``.

    Args:
        options: a logger's options.
        secret_names: names of further secret options, which their names do not show.
    """
    declared = frozenset(secret_names)

    def keep(path: str, value: Any) -> Any:
        if value is None or isinstance(value, bool) or not _holds_secret(path, value, declared):
            return value
        return value if isinstance(value, str) and _ONLY_REFERENCES.fullmatch(value) else _LEFT_OUT

    safe: dict[str, Any] = _walk(options, keep)
    return safe


def _holds_secret(path: str, value: Any, declared: frozenset[str]) -> bool:
    if isinstance(value, str) and _SECRET_IN_URL.search(value):
        return True
    return any(is_secret(part, declared) for part in path.split("."))


def secret_values(options: Mapping[str, Any], secret_names: Iterable[str], source: str) -> list[str]:
    """Return the values that must not be shown: those of secret options and of each ``${NAME}``.

    Args:
        options: a logger's options, as written.
        secret_names: names of further secret options, which their names do not show.
        source: where the options were set, for the error message.

    Raises:
        MissingSecretError: as in `expand_secrets`.
    """
    declared = frozenset(secret_names)
    values: list[str] = []

    def collect(path: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        references = [found[0] for found in _REFERENCE.finditer(value)]
        if references or _holds_secret(path, value, declared):
            values.extend(expand_secrets({path: each}, source)[path] for each in (value, *references))
            values.extend(
                found[found.lastindex or 0] for found in _SECRET_IN_URL.finditer(values[-1 - len(references)])
            )
        return value

    _walk(options, collect)
    # Longest first: a value may be part of another.
    return sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a text with each secret replaced by ``***``."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def mask_urls(text: str) -> str:
    """Return a text with passwords and tokens in URLs replaced by ``***``.

    >>> mask_urls("postgresql://me:a/b@host, https://t0k3n@host and http://host/?password=p4ss&x=1")
    'postgresql://me:***@host, https://***@host and http://host/?password=***&x=1'
    """

    def mask(found: re.Match[str]) -> str:
        start, end = found.span(found.lastindex or 0)
        return f"{found[0][: start - found.start()]}{MASK}{found[0][end - found.start() :]}"

    return _SECRET_IN_URL.sub(mask, text)


def mask_params(params: Any) -> Any:
    """Return hyperparameters with secrets replaced by ``***``: texts with the name of a secret, and those in URLs.

    >>> mask_params({"lr": 0.1, "api_key": "k3y", "pad_token": "<pad>", "db": {"url": "mysql://me:pw@host"}})
    {'lr': 0.1, 'api_key': '***', 'pad_token': '<pad>', 'db': {'url': 'mysql://me:***@host'}}
    """

    def mask(path: str, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        return MASK if _is_secret_param(path.rpartition(".")[2]) else mask_urls(value) if "://" in value else value

    return _walk(params, mask)


def mask_source(text: str, secrets: Iterable[str] = ()) -> str:
    """Return source code, or a diff, with the literals assigned to names of secrets replaced by ``***``.

    >>> mask_source('API_KEY = "0123456789"; pad_token = "<|endoftext|>"; token = os.environ["TOKEN"]')
    'API_KEY = "***"; pad_token = "<|endoftext|>"; token = os.environ["TOKEN"]'
    """

    def mask(found: re.Match[str]) -> str:
        name, between, quote, _ = found.groups()
        return f"{name}{between}{quote}{MASK}{quote}" if _is_secret_param(name) else found[0]

    return scrub(_LITERAL.sub(mask, mask_urls(text)), secrets)


def _is_secret_param(name: str) -> bool:
    return _SECRET_PARAM.search(name.lower().replace("-", "_").rpartition(".")[2]) is not None


def mask_arguments(arguments: Iterable[str], secrets: Iterable[str] = ()) -> list[str]:
    """Return a command line with the values of secret options replaced by ``***``.

    >>> mask_arguments(["--api-key", "k3y", "--token=t0k", "logger.password=p4ss", "--lr=1"])
    ['--api-key', '***', '--token=***', 'logger.password=***', '--lr=1']
    """

    def shown(text: str) -> str:
        return scrub(_SECRET_SETTING.sub(r"\1***", mask_urls(text)), secrets)

    masked: list[str] = []
    is_value = False
    for argument in arguments:
        name, separator, _ = argument.partition("=")
        holds_secret = is_secret(name)
        if is_value and not argument.startswith("--"):
            masked.append("***")
        elif separator and holds_secret:
            masked.append(f"{shown(name)}=***")
        else:
            masked.append(shown(argument))
        is_value = holds_secret and not separator and argument.startswith("-")
    return masked


_SECRET_SETTING = re.compile(
    rf"""({_SECRET_WORDS.replace("_?", "[-_]?")}["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^"',;&}}]+)""", re.IGNORECASE
)
"""A secret and its name within a longer text: JSON, the query of a URL, a header."""
_SHORTEST_SECRET = 6  # "root" from ${USER} occurs in too many words


def _walk(value: Any, change: Callable[[str, Any], Any], path: str = "") -> Any:
    # Replaces each leaf by change(path, leaf); _LEFT_OUT removes it.
    if isinstance(value, Mapping):
        below = f"{path}." if path else ""
        items = [(key, _walk(each, change, f"{below}{key}")) for key, each in value.items()]
        return {key: each for key, each in items if each is not _LEFT_OUT}
    if type(value) in (list, tuple):
        changed = [_walk(each, change, f"{path}.{index}") for index, each in enumerate(value)]
        return type(value)(each for each in changed if each is not _LEFT_OUT)
    return change(path, value)

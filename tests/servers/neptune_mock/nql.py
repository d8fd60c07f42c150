"""The part of Neptune's query language that its client uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from servers.neptune_mock.attributes import Attribute, StringSet, Value

Predicate: TypeAlias = Callable[[Mapping[str, Attribute]], bool]

_TOKEN = re.compile(r'\s*(\(|\)|AND\b|OR\b|`(?:[^`]*)`:\w+|=|>|CONTAINS\b|"(?:[^"]*)"|[^\s()]+)')


def parse(query: str) -> Predicate:
    """Return a predicate of a run's attributes for a query; an empty query matches all runs.

    Raises:
        ValueError: the query is invalid.
    """
    tokens = _TOKEN.findall(query)
    if not tokens:
        return lambda attributes: True
    predicate = _expression(tokens)
    if tokens:
        raise ValueError(f"{' '.join(tokens)} is unexpected")
    return predicate


def _expression(tokens: list[str]) -> Predicate:
    terms = [_term(tokens)]
    joiners = set()
    while tokens and tokens[0] in ("AND", "OR"):
        joiners.add(tokens.pop(0))
        terms.append(_term(tokens))
    if len(joiners) > 1:
        raise ValueError("AND and OR in one expression need parentheses")
    join = any if joiners == {"OR"} else all
    return lambda attributes: join(term(attributes) for term in terms)


def _term(tokens: list[str]) -> Predicate:
    if not tokens:
        raise ValueError("the query ends too early")
    if tokens[0] != "(":
        return _comparison(tokens)
    tokens.pop(0)
    inner = _expression(tokens)
    if not tokens or tokens.pop(0) != ")":
        raise ValueError("a parenthesis is not closed")
    return inner


def _comparison(tokens: list[str]) -> Predicate:
    if len(tokens) < 3 or not tokens[0].startswith("`"):
        raise ValueError(f"{' '.join(tokens)} is not a comparison")
    path, operator, wanted = tokens.pop(0).rpartition(":")[0].strip("`"), tokens.pop(0), tokens.pop(0).strip('"')
    if operator not in _OPERATORS:
        raise ValueError(f"{operator} is not an operator")
    return lambda attributes: path in attributes and _OPERATORS[operator](attributes[path], wanted)


def _text(attribute: Attribute) -> Any:
    value = attribute.value if isinstance(attribute, Value) else None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _contains(attribute: Attribute, wanted: str) -> bool:
    return wanted in attribute.values if isinstance(attribute, StringSet) else wanted in _text(attribute)


_OPERATORS: dict[str, Callable[[Attribute, str], bool]] = {
    "=": lambda attribute, wanted: _text(attribute) == wanted,
    ">": lambda attribute, wanted: isinstance(attribute, Value) and float(attribute.value) > float(wanted),
    "CONTAINS": _contains,
}

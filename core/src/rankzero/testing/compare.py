"""Compare the data in the tracker with the logged data, for the messages of the contracts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rankzero.testing.samples import Sample
from rankzero.testing.tracked import Item, Tracked

Series = Sequence[tuple[int | None, str]]
"""The values of a metric: (step, value as a text)."""

_A_FEW = 5
_LOST = (
    "Either flush() returned before the tracker had them, or watermark() counts lines whose values the tracker does "
    "not have: it is the last delivered context.line + 1, committed together with the values"
)
_AGAIN = (
    "They were delivered again, so watermark() is smaller than what the tracker has: it is the last delivered "
    'context.line + 1, committed together with the values. Without a watermark leave "exactly_once" out of capabilities'
)


def difference(name: str, logged: Series, found: Series, *, again: bool = False, delivered: bool = False) -> str | None:
    """Return the difference between the values of a metric, None if there is none.

    Args:
        name: the name of the metric.
        logged: the logged values.
        found: the values in the tracker.
        again: allow duplicated values.
        delivered: whether a courier delivered them, so that the watermark may be wrong.
    """
    missing = list((Counter(logged) - Counter(found)).elements())
    surplus = list((Counter(found) - Counter(logged)).elements())
    doubled = [] if again else [value for value in surplus if value in logged]
    foreign = [value for value in surplus if value not in logged]
    parts = [
        f"{what}: {few(values)}"
        for what, values in (("missing", missing), ("twice", doubled), ("there, but never logged", foreign))
        if values
    ]
    if not parts and not again and list(logged) != list(found):
        parts.append(f"in another order: logged as {few(logged)}, came back as {few(found)}")
    if not parts:
        return None
    hints = [hint for hint, applies in ((_LOST, missing and not foreign), (_AGAIN, doubled)) if applies and delivered]
    return ". ".join([f"values of {name!r}, as (step, value), are {'; '.join(parts)}", *hints])


def few(values: Sequence[Any]) -> str:
    """Return a text with the first values."""
    rest = len(values) - _A_FEW
    text = ", ".join(map(str, values[:_A_FEW]))
    return f"[{text}, and {rest} more]" if rest > 0 else f"[{text}]"


def keys_by_kind(tracked: Tracked) -> str:
    """Return a text with the keys of each kind in the tracker."""
    kinds = {kind: [item.key for item in items] for kind, items in tracked.items.items() if items}
    if tracked.tags:
        kinds["tags"] = list(tracked.tags)
    return "; ".join(f"{kind}: {few([repr(key) for key in keys])}" for kind, keys in kinds.items()) or "nothing"


def item_difference(item: Item, sample: Sample) -> str | None:
    """Return the difference between an item in the tracker and its sample, None if there is none."""
    of = f"the {sample.kind} {sample.key!r}"
    for what, logged, found in (("step", sample.step, item.step), ("score", sample.score, item.score)):
        if found is not None and found != logged:
            return f"the {what} of {of} came back as {found!r}; it was logged as {logged!r}"
    if not set(sample.aliases) <= set(item.aliases):
        return f"the aliases of {of} came back as {list(item.aliases)}; they were logged as {list(sample.aliases)}"
    if item.content is None or sample.content is None:
        return None
    if isinstance(sample.content, bytes):
        if item.content != sample.content:
            return f"the content of {of} came back as {_short(item.content)}; it was logged as {_short(sample.content)}"
        return None
    return _table_difference(of, item.content, sample.content)


def _table_difference(of: str, found: Any, logged: tuple[Sequence[str], Iterable[Iterable[Any]]]) -> str | None:
    try:
        columns, rows = found
    except (TypeError, ValueError):
        return f"the content of {of} must come back as (columns, rows), not as {_short(found)}"
    for what, wanted, got in (
        ("columns", list(logged[0]), list(columns)),
        ("rows", _as_text(logged[1]), _as_text(rows)),
    ):
        if wanted != got:
            return f"the {what} of {of} came back as {got}; they were logged as {wanted}"
    return None


def params_difference(wanted: Mapping[str, Any], found: Mapping[str, Any], *, typed: bool) -> str | None:
    """Return the difference between two flat mappings of hyperparameters, None if there is none."""
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        return f"hyperparameters are missing: {missing}; there are {sorted(found)}"
    for key, value in wanted.items():
        same = (found[key], type(found[key])) == (value, type(value)) if typed else str(found[key]) == str(value)
        if not same:
            return f"the hyperparameter {key!r} came back as {found[key]!r}; it was logged as {value!r}"
    return None


def _as_text(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]


def _short(content: Any) -> str:
    size = f"{len(content)} bytes " if isinstance(content, bytes) else ""
    text = repr(content)
    return size + (text if len(text) <= 60 else text[:60] + "…")

"""Copies of one source: a backup beside the original, an export that was made again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from rankzero.errors import RunError
from rankzero.importers.base import FoundRun, SkipRun
from rankzero_neptune.rescue.passed_over import PassedOver

T = TypeVar("T")
_CHUNK = 1 << 20
_END = object()


def without_copies(
    sources: Iterable[T],
    name_of: Callable[[T], Hashable],
    path_of: Callable[[T], Path],
    size_of: Callable[[T], int],
    is_beginning: Callable[[T, T], bool],
) -> tuple[list[T], list[FoundRun]]:
    """Return the sources to take, in their order, and what stands for the others.

    Args:
        sources: all of one run.
        name_of: two of the same name are the same source, as its tool makes each name once.
        path_of: where one is.
        size_of: how much is in one; of each name the largest is taken, the first of those.
        is_beginning: whether all of the first is at the beginning of the second.
    """
    every = list(sources)
    largest: dict[Hashable, T] = {}
    for each in every:
        known = largest.setdefault(name_of(each), each)
        if known is not each and size_of(each) > size_of(known):
            largest[name_of(each)] = each
    taken = [each for each in every if largest[name_of(each)] is each]
    passed = []
    for each in every:
        original = largest[name_of(each)]
        if original is not each:
            where = path_of(original)
            passed.append(PassedOver(path_of(each), _reason(where, is_beginning(each, original))))
    return taken, list(passed)


def _reason(original: Path, is_copy: bool) -> Exception:
    if is_copy:
        return SkipRun(f"it is a copy of {original}")
    return RunError(
        f"{original} has the same name and is larger, but holds something else; import this one by itself, elsewhere "
        "with --dir"
    )


def is_file_beginning(part: Path, whole: Path) -> bool:
    """Return whether the bytes of a file are at the beginning of another."""
    try:
        with open(part, "rb") as short, open(whole, "rb") as long:
            while data := short.read(_CHUNK):
                if long.read(len(data)) != data:
                    return False
    except OSError:
        return False
    return True


def is_sequence_beginning(part: Iterator[object], whole: Iterator[object]) -> bool:
    """Return whether what the first yields the second yields first."""
    for short, long in zip_longest(part, whole, fillvalue=_END):
        if short is _END:
            return True
        if short != long:
            return False
    return True


def are_files_beginnings(parts: Sequence[Path], wholes: Sequence[Path]) -> bool:
    """Return whether each file is the beginning of the one that has its name."""
    by_name = {path.name: path for path in wholes}
    return all(path.name in by_name and is_file_beginning(path, by_name[path.name]) for path in parts)

"""The nearest right name, for messages about a wrong one."""

from __future__ import annotations

from collections.abc import Iterable

SIMILAR = 0.6
VERY_SIMILAR = 0.85


def nearest(word: str, candidates: Iterable[str], similarity: float = SIMILAR) -> str | None:
    """Return the candidate most like ``word``, None if none is similar; case and ``-`` or ``_`` do not count.

    >>> nearest("log-modl", ["log_model", "offline"])
    'log_model'
    """
    from difflib import get_close_matches  # 5 ms, and only needed when something is wrong

    folded = {_fold(candidate): candidate for candidate in candidates}
    found = get_close_matches(_fold(word), folded, n=1, cutoff=similarity)
    return folded[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'NAME'?`` with its leading space, or nothing."""
    found = nearest(word, candidates)
    return f" Did you mean {found!r}?" if found else ""


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")

"""Unusual values, and a comparison of numbers."""

import struct


class Word(str):
    """A text that says something else of itself, as `numpy.str_` and the classes of YAML libraries may."""

    def __str__(self):
        return "no"

    __repr__ = __format__ = __str__


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")


class Gone:
    """Cannot even be asked what it is, as a weak proxy of what is gone."""

    @property
    def __class__(self):
        raise ReferenceError("gone")

    __str__ = __repr__ = Hostile.__repr__

    __hash__ = object.__hash__


def same(left, right):
    """Whether two numbers are of one type and equal to the last bit."""
    if type(left) is not type(right):
        return False
    return struct.pack("d", left) == struct.pack("d", right) if isinstance(left, float) else left == right

"""Paths of new fields in a run with other fields."""

import pytest

from rankzero_neptune.fields import Paths, joined, named


def paths(**types):
    moved = []
    return Paths(
        {name.replace("__", "/"): kind for name, kind in types.items()}, lambda *each: moved.append(each)
    ), moved


def test_free_paths_and_paths_of_the_same_type_are_used():
    known, moved = paths(a="floatSeries")
    assert known.claim("a", "floatSeries") == "a"
    assert known.claim("b/c", "string") == "b/c"
    assert known.claim("b/d", "int") == "b/d"
    assert moved == []


@pytest.mark.parametrize(
    ("there", "wished", "kind", "taken"),
    [
        ({"a": "string"}, "a", "floatSeries", "a_floatSeries"),
        ({"a": "string", "a_floatSeries": "floatSeries"}, "a", "floatSeries", "a_floatSeries"),
        ({"a": "string", "a_floatSeries": "file"}, "a", "floatSeries", "a_floatSeries_floatSeries"),
        ({"a": "floatSeries"}, "a/b", "floatSeries", "a_parts/b"),
        ({"a__b": "floatSeries"}, "a", "floatSeries", "a_floatSeries"),
    ],
)
def test_a_new_field_gets_a_path_beside_a_field_of_another_type(there, wished, kind, taken):
    known, moved = paths(**there)
    assert known.claim(wished, kind) == taken
    assert known.claim(wished, kind) == taken
    assert set(moved) == {(wished, taken)}


def test_a_freed_path_can_be_used():
    known, _ = paths(a="string")
    known.free("a")
    assert known.type_of("a") is None


def test_paths_below_a_path():
    known, _ = paths(a__b="int", a__c__d="int", ab="int")
    assert known.at("a") == ["a/b", "a/c/d"]


def test_parts_of_a_path():
    assert joined("", "a//b", "/c/") == "a/b/c"
    assert named("p", "") == "p/(no name)"
    assert named("", "/") == "(no name)"

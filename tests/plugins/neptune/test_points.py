"""The points that a series accepts, and the others, which become texts."""

import math

import pytest

from rankzero_neptune.fields import Point, Tail, as_text, milliseconds


def points(*steps, value=0.5, time=1000):
    return [Point(value + index, step, time + index) for index, step in enumerate(steps)]


def test_increasing_steps_fit():
    logged = points(0.0, 1.0, 5.0)
    assert Tail().fit(logged) == (logged, [])


def test_late_and_repeated_steps_do_not_fit():
    logged = points(3.0, 1.0, 3.0, 4.0)
    assert Tail().fit(logged) == ([logged[0], logged[3]], [logged[1], logged[2]])


def test_a_point_without_a_step_gets_the_next_one():
    logged = points(3.0, None, 4.0, 5.0)
    assert Tail().fit(logged) == ([logged[0], logged[1], logged[3]], [logged[2]])


def test_a_repeated_point_is_skipped():
    (first,) = points(3.0)
    assert Tail().fit([first, first._replace(time=2000)]) == ([first], [])
    assert Tail([first]).fit([first._replace(time=2000)]) == ([], [])


def test_time_does_not_go_back():
    logged = [Point(1.0, 0.0, 2000), Point(2.0, 1.0, 1000)]
    assert Tail().fit(logged)[0] == [logged[0], logged[1]._replace(time=2000)]


def test_points_in_neptune_are_not_logged_again():
    held = points(0.0, 1.0, 2.0)
    new = points(3.0, value=9.5, time=2000)
    assert Tail(held).fit([*held[1:], *new]) == (new, [])
    changed = held[2]._replace(value=7.0)
    assert Tail(held).fit([held[1], changed]) == ([], [changed])


def test_a_point_logged_twice_that_neptune_has_once():
    (first,) = without = [Point("a", None, 1000)]
    assert Tail(without).fit([first, first]) == ([first], [])


@pytest.mark.parametrize("value", [0.1, 1 / 3, math.inf, -math.inf, 1e300, -0.0])
def test_a_number_as_text_can_be_read(value):
    assert float(as_text(value)) == value
    assert as_text(math.nan) == "NaN"


def test_a_text_contains_the_step():
    assert Point(math.nan, 3.0, 5).as_text == Point("step 3: NaN", None, 5)
    assert Point(0.1, 1e15, 5).as_text.value == "step 1000000000000000: 0.1"
    assert Point(0.1, None, 5).as_text.value == "0.1"


def test_milliseconds_are_rounded():
    assert milliseconds(1_700_000_000.0019) == 1_700_000_000_002


def test_non_finite_values_are_refused_in_order():
    logged = [Point(1.0, 5.0, 1000), Point(math.nan, 6.0, 1001), Point(2.0, 3.0, 1002), Point(3.0, 6.0, 1003)]
    assert Tail().fit(logged) == ([logged[0], logged[3]], logged[1:3])


@pytest.mark.parametrize("step", [3.0, None])
def test_the_same_value_at_another_time_is_another_point(step):
    held = Point(1.0, step, 1000)
    assert Tail([held]).fit([held._replace(step=None, time=2000)]) != ([], [])
    late = held._replace(time=2000)
    behind = Point(2.0, 4.0, 1500)
    fitting, refused = Tail([held, behind]).fit([late])
    assert fitting + refused == [late]


@pytest.mark.parametrize("step", [1.0, None])
def test_points_with_a_later_time_in_neptune_are_not_logged_again(step):
    logged = [Point(1.0, 0.0, 2000), Point(2.0, step, 1000), Point(3.0, 7.0, 3000)]
    held = Tail().fit(logged)[0]
    assert held[1].time == 2000
    assert Tail(held).fit(logged[1:]) == ([], [])


def test_a_point_logged_twice_is_not_logged_again_after_a_lost_response():
    twice = [Point(1.0, 0.0, 1000), Point(1.0, 0.0, 1001), Point(2.0, 1.0, 1002)]
    assert Tail(Tail().fit(twice)[0]).fit(twice) == ([], [])

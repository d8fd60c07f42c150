"""Trainings at random, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st
from integrations.oracle.training import METRICS, NUMBERS, Logged, Training

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=7).map(tuple)
LOADERS = st.lists(SIZES, max_size=2).map(tuple)
PLACES = st.sampled_from(["train", "train", "train", "validate", "validate", "test", "epoch"])


@st.composite
def logged(draw: st.DrawFn, name: str) -> Logged:
    place = draw(PLACES)
    kind = draw(st.sampled_from([*NUMBERS, *METRICS]))
    options = {}
    levels = [(None, None), (False, True)]
    if place != "epoch":
        levels += [(True, True), (True, False), (None, True)]
        levels += [(True, None)]
    elif kind in METRICS:
        kind = "float32"
    options["on_step"], options["on_epoch"] = draw(st.sampled_from(levels))
    options["reduce_fx"] = draw(st.sampled_from(["mean", "sum", "min", "max"]))
    options["logger"] = draw(st.sampled_from([None, None, True, False]))
    options["prog_bar"] = draw(st.booleans())
    options["enable_graph"] = draw(st.booleans())
    if kind != "collection":
        options["add_dataloader_idx"] = draw(st.sampled_from([True, True, False]))
    return Logged(
        # a name may be logged in training and in evaluations
        name if draw(st.booleans()) else f"{place}/{name}",
        place,
        kind,
        options,
        every=draw(st.sampled_from([1, 1, 2, 3])),
        first=draw(st.integers(0, 2)),
        is_sized=draw(st.booleans()),
        in_dict=kind in NUMBERS and draw(st.booleans()),
    )


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    batches = draw(SIZES)
    validation = draw(LOADERS)
    has_lengths = draw(st.sampled_from([True, True, True, False]))
    validate_every = draw(st.none() | st.integers(1, len(batches))) if validation and has_lengths else None
    return Training(
        tuple(draw(logged(name)) for name in "abcdef"[: draw(st.integers(1, 6))]),
        epochs=draw(st.integers(1, 3)),
        batches=batches,
        accumulate=draw(st.integers(1, 3)),
        log_every=draw(st.sampled_from([0, 1, 2, 3, 50])),
        validation=validation,
        validate_every=validate_every,
        sanity_batches=draw(st.sampled_from([0, 2])),
        stop_after=draw(st.none() | st.integers(0, 1)),
        test=draw(LOADERS),
        has_lengths=has_lengths,
    )

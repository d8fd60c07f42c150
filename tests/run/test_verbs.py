"""Every log method with generated odd values: none raises, even if warnings are errors, and valid ones are logged."""

import contextlib
import math
import warnings
import weakref
from decimal import Decimal
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from odd_values import Gone, Hostile, Word, same

import rankzero
from rankzero.events.structs import Alert, Audio, DefineMetric, Histogram, Image, Metrics, Params, Table, Tags, Text
from rankzero.journal.tail import Tail
from rankzero.media.store import read_table
from rankzero.rundir.layout import JOURNAL


class Dead(Exception):
    pass


def knot():
    lists = [[] for _ in range(8)]
    for each in lists:
        each.extend(lists)
    return lists[0]


def inside_itself():
    mapping = {"a": 1}
    mapping["again"] = mapping
    return mapping


ODD = {
    "hostile": Hostile,
    "gone": Gone,
    "dead proxy": lambda: weakref.proxy(Dead()),
    "knot": knot,
    "mapping inside itself": inside_itself,
    "huge int": lambda: 10**5000,
    "meta tensor": lambda: torch.ones(2, device="meta"),
    "array of objects": lambda: np.array([object(), None]),
    "two numbers": lambda: np.arange(2),
    "none": lambda: None,
    "bytes": lambda: b"\xff",
    "bytes in a key": lambda: {b"k": Word("v"), None: 1},
    "lone surrogate": lambda: "\ud800",
    "class": lambda: Hostile,
    "generator": lambda: (each for each in "ab"),
}

plain_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
texts = st.one_of(
    plain_texts.map(lambda text: (text, text)),
    plain_texts.map(lambda text: (Word(text), text)),
    plain_texts.filter(lambda text: "\0" not in text).map(lambda text: (np.str_(text), text)),
    (st.integers(-9, 9) | st.floats(0, 1)).map(lambda number: (number, str(number))),
)
numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(lambda number: (number, number)),
    st.floats(allow_nan=False).map(lambda number: (number, number)),
    st.floats(allow_nan=False, width=32).map(lambda number: (np.float32(number), float(number))),
    st.sampled_from([0.0, 1.0, -2.0, 0.5]).flatmap(
        lambda number: st.sampled_from(
            [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float64]
        ).map(lambda dtype: (torch.tensor([number]).to(dtype), number))
    ),
    st.sampled_from([1.0, -2.0]).map(lambda number: (torch.tensor([number]).to_sparse(), number)),
    st.just((Decimal("0.5"), 0.5)),
)
pixels = st.sampled_from(
    [torch.eye(3).to_sparse(), torch.eye(3).to(torch.float8_e5m2), torch.eye(3).bfloat16(), np.eye(3)]
)
odd = st.sampled_from(sorted(ODD))


@pytest.mark.parametrize("filters", ["error", "ignore"])
def test_no_verb_raises_and_valid_data_arrives(tmp_path, swallowed_warnings, filters):
    run = rankzero.start("csv", dir=tmp_path, delivery="off")
    tail, numbered = Tail(run.dir / JOURNAL), count()
    tail.read()

    def logged(verb, kind, *args, **kwargs):
        """Return the last event of a kind that a call made."""
        getattr(run, verb)(*args, **kwargs)
        found = [line.decode() for line in tail.read()]
        return [event for event in found if isinstance(event, kind)][-1]

    @settings(max_examples=15, deadline=None, phases=[Phase.generate])
    @given(texts, texts, numbers, numbers, pixels, odd, odd)
    def check(text, other, number, second, picture, name, another):
        index, (given_text, text), (given_other, other) = next(numbered), text, other
        value, key = ODD[name](), f"key {index}"

        row = logged("log_metrics", Metrics, {key: number[0], "odd": value, np.str_("n"): {"m": second[0]}}, index,
                     epoch=value, stage=given_text)  # fmt: skip
        assert (row.step, row.stage) == (index, text)
        found = row.numbers()
        assert same(found[key], number[1])
        assert same(found["n/m"], second[1])

        event = logged("log_hyperparams", Params, {key: [given_text, number[0]], "odd": value}, {"m": second[0]})
        (kept, number_kept), metric = event.params()[key], event.metrics["m"]
        assert (kept, type(kept)) == ((text if isinstance(given_text, str) else given_text), type(kept))
        assert number_kept == number[1]
        assert metric == (second[1] if math.isfinite(second[1]) else metric)

        event = logged("log_text", Text, given_text, [given_text, given_other], [[given_other, value]], step=number[0])
        assert (event.key, event.columns) == (text, [text, other])
        assert str(event.data[0][0]) == other
        assert logged("log_tags", Tags, [given_text, given_other]).tags == [text, other]
        assert logged("log_tags", Tags, given_text).tags == [text]
        event = logged("alert", Alert, given_text, given_other, value)
        assert (event.title, event.text, event.level) == (text, other, "INFO")
        event = logged("define_metric", DefineMetric, given_text, given_other)
        assert (event.name, event.step_metric) == (text, other)
        event = logged("log_image", Image, given_text, picture, caption=[given_other], masks=value)
        (file,) = event.files
        assert (event.key, file.caption) == (text, other)
        assert (np.asarray(file.under(run.dir)) == np.eye(3) * 255).all()
        event = logged("log_audio", Audio, given_text, torch.zeros(4).to(torch.float8_e5m2), caption=given_other)
        assert (event.key, event.files[0].caption) == (text, other)
        event = logged("log_table", Table, given_text, [given_text, given_other], [[number[0], value]])
        columns, ((cell, _),) = read_table(run.dir / event.file.path)
        assert (columns, cell) == ([text, other], number[1])
        event = logged("log_histogram", Histogram, given_text, picture, step=index, bins=2)
        assert (event.key, event.values.counts, event.step) == (text, [6, 3], index)

        for verb in ("log_metrics", "log_hyperparams", "log_tags", "define_metric", "log_graph", "log_artifact",
                     "log_checkpoint", "agg_and_log_metrics", "update_agg_funcs", "watch", "unwatch", "finalize",
                     "after_save_checkpoint"):  # fmt: skip
            getattr(run, verb)(ODD[another]())
        for verb in ("log_image", "log_audio", "log_video", "log_figure", "log_table", "log_text", "log_histogram",
                     "alert", "log_artifact", "log_checkpoint", "define_metric"):  # fmt: skip
            getattr(run, verb)(ODD[another](), ODD[name]())
            path_or_key = "" if verb in ("log_artifact", "log_checkpoint") else given_text
            getattr(run, verb)(path_or_key, ODD[another](), ODD[name]())
        tail.read()

    with warnings.catch_warnings(), contextlib.closing(tail):
        warnings.simplefilter(filters)
        check()
    run.finish()
    swallowed_warnings.clear()
    data = rankzero.read_run(run.dir)
    assert {f"key {index}" for index in range(next(numbered))} <= set(data.params)

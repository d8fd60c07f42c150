"""Names become valid; different names stay different, and are reversible."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mlflow.utils.uri import validate_path_is_safe
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name
from plugins.mlflow.tracked import Held

from rankzero_mlflow.client import LONGEST, NAME_TAG, image_name, metric_name, path_name

each_mapping = pytest.mark.parametrize(
    ("change", "opening", "closing"), [(metric_name, ":", ":"), (path_name, "~", "~"), (image_name, "_x", "_")]
)
NASTY = st.text(st.sampled_from("a5Bx_:~/. -=[#%?ü\n"), max_size=12) | st.sampled_from(
    ["", ".", "..", "...", "/", "a//b", "a/", "../x", ":5B:", "[", "~empty~", "_x5B_", "_x", "loss\n", " "]
)
NAMES = NASTY | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def undo(name, opening, closing):
    plain = re.sub(f"{opening}([0-9A-F]+){closing}", lambda code: chr(int(code[1], 16)), name)
    return "" if name == f"{opening}empty{closing}" else plain


@each_mapping
@given(name=NAMES)
def test_reversible(change, opening, closing, name):
    safe = change(name)
    assume(len(safe) < 100)  # a longer one is cut
    assert safe == name or undo(safe, opening, closing) == name


@each_mapping
@given(first=NAMES, second=NAMES)
@example("[", ":5B:")
@example("[", "~5B~")
@example("[", "_x5B_")
@example("", "~empty~")
@example("", ":empty:")
@example("", "_xempty_")
def test_different_names_stay_different(change, opening, closing, first, second):
    assert (change(first) == change(second)) == (first == second)


@given(name=NAMES | st.text("a[ü/", min_size=200, max_size=400))
def test_mlflow_accepts_the_names(name):
    for validate in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        validate(metric_name(name))
    assert len(metric_name(name)) <= LONGEST
    if metric_name(name) != name:
        _validate_tag_name(NAME_TAG + metric_name(name))
        assert len(NAME_TAG + metric_name(name)) <= LONGEST


@given(name=NAMES | st.text("a[ü/", min_size=200, max_size=400))
def test_a_path_is_safe_and_no_part_too_long(name):
    path, image = path_name(name), image_name(name)
    assert validate_path_is_safe(path) == path
    assert all(0 < len(part.encode()) <= 150 for part in path.split("/"))
    assert re.fullmatch(r"[a-zA-Z0-9_\-./ ]{1,150}", image)


@pytest.mark.parametrize(
    "name", ["loss", "val/loss_1", "lr-Adam/pg1", "größe", "a b.c", "layer_1_x", "v1.0:2", "x" * 250]
)
def test_allowed_names_are_unchanged(name):
    assert metric_name(name) == name


def test_valid_paths_and_images_are_unchanged():
    assert path_name("épsilon=0.1/val loss") == "épsilon=0.1/val loss"
    assert image_name("val/layer_1_weights.0-x") == "val/layer_1_weights.0-x"


def test_long_names_stay_different():
    names = ["x" * 251, "x" * 252, "x" * 251 + "y", "[" * 120, "[" * 121]
    for change in (metric_name, path_name, image_name):
        assert len({change(name) for name in names}) == len(names)


NAMES_TO_LOG = {"loss [train]": 1.5, "../up": 2.5, "": 3.5, "größe": 4.5, "a:b": 5.5, "x" * 251: 6.5}


def test_metrics_keep_their_names_in_tags(on_server):
    with pytest.warns(UserWarning, match="refuses the name") as said:
        on_server.log_metrics(NAMES_TO_LOG, step=1)
    on_server.log_metrics(NAMES_TO_LOG, step=2)
    assert len(said) == 4
    held = Held(on_server)
    names = {tag.removeprefix(NAME_TAG): name for tag, name in held.tags.items() if tag.startswith(NAME_TAG)}
    assert set(names.values()) == {"loss [train]", "../up", "", "x" * 251}
    found = {names.get(key, key): [point[:2] for point in held.points(key)] for key in held.metrics}
    assert found == {name: [(1, value), (2, value)] for name, value in NAMES_TO_LOG.items()}

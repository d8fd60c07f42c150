"""The page in a real Chromium: every control works, and no script of a run is executed."""

import itertools
import math
import re

import pytest
from reader.page.scenes import (
    BACKWARDS,
    BEGAN,
    HOSTILE,
    read_for_page,
    rows,
    write_full_run,
    write_rewound_run,
    write_run,
)

from rankzero.events.structs import Finish, Metrics, Params, Rewind, Text
from rankzero.reader.page.html import write_page

pytestmark = pytest.mark.slow


@pytest.fixture
def write(tmp_path):
    """Write a page of run directories, and return its path."""

    def write(*run_dirs, max_media=50_000_000):
        return write_page([read_for_page(each) for each in run_dirs], tmp_path / "page.html", max_media).path

    return write


@pytest.fixture
def three(tmp_path, write):
    """A page of three runs with every kind of data."""
    return write(*(write_full_run(tmp_path, number, f"run-{number}", f"text-{number}") for number in range(3)))


def until(page, expression):
    """Wait until an expression holds in the page, which refuses Playwright's own way to wait for one."""
    for _ in range(1000):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"waited in vain for {expression}")


def charts(page):
    return page.locator(".chart")


def wait_for_curves(page, count=1):
    until(page, f"document.querySelectorAll('.chart .u-over').length >= {count}")


def hash_of(page):
    return page.evaluate("location.hash")


def drawing(page, index=0):
    """Return the picture of a chart."""
    page.wait_for_timeout(50)  # uPlot draws in the next frame
    return page.locator(".chart canvas").nth(index).evaluate("canvas => canvas.toDataURL()")


def test_charts_are_grouped_by_prefix_and_groups_close(open_page, three):
    page = open_page(three)
    wait_for_curves(page)
    assert [each.split("\n")[0] for each in page.locator(".group > summary bdi").all_inner_texts()] == ["train", "val"]
    assert charts(page).first.get_attribute("aria-label") == "train/loss"
    page.locator(".group > summary").first.click()
    assert not charts(page).first.is_visible()
    until(page, "location.hash.includes('closed')")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator(".group[open]").count() == 1
    page.get_by_role("button", name="Open groups").click()
    assert page.locator(".group[open]").count() == 2
    page.get_by_role("button", name="Close groups").click()
    assert page.locator(".group[open]").count() == 0


def test_smoothing_log_axes_and_x_axes_change_the_curves(open_page, three):
    page = open_page(three)
    wait_for_curves(page, 2)
    pictures = [drawing(page)]
    page.get_by_label("Smoothing").fill("0.9")
    pictures.append(drawing(page))
    for name in ("log y", "log x"):
        page.get_by_role("button", name=name).click()
        assert page.get_by_role("button", name=name).get_attribute("aria-pressed") == "true"
        pictures.append(drawing(page))
    for x in ("epoch", "wall", "relative"):
        page.get_by_label("X-axis").select_option(x)
        pictures.append(drawing(page))
    assert len(set(pictures)) == len(pictures)
    assert all(part in hash_of(page) for part in ("x=relative", "smooth=0.9", "logx=true", "logy=true"))
    again = open_page(three, hash_of(page))
    wait_for_curves(again, 2)
    assert again.get_by_label("X-axis").input_value() == "relative"
    assert drawing(again) == pictures[-1]


def test_log_axes_draw_and_label_values_between_any_limits(open_page, tmp_path, write):
    lows = (1.05e-4, 1.08e-2, 1.08e-3, 1e-4, 1.2e-4, 0.7, 0.999999, 1e-20, 1e-300, 5e-324)
    events = [
        Metrics(BEGAN + step, step, {f"m{low}": low if step == 7 else 1.0 for low in lows}) for step in range(1, 9)
    ]
    page = open_page(write(write_run(tmp_path, *events)))
    wait_for_curves(page, len(lows))
    for key in "lk":
        page.keyboard.press(key)
    found = axis_labels(page)
    assert len(found) == len(lows)
    for steps, values in found:
        assert 2 <= len(steps) == len(set(steps)) <= 8, steps
        assert 2 <= len(values) == len(set(values)) <= 9, values
        assert max(map(len, values)) <= 8, values


def test_labels_of_an_axis_differ_and_a_constant_has_zero_on_its_axis(open_page, tmp_path, write):
    values = {"percent": 100.0, "none": 0.0, "below": -2.0, "big": 1e6, "small": 0.0224137}
    events = [
        Metrics(BEGAN + step / 100, step, values | {"steps": 1e4 + step, "near": 1 + step / 4e5}) for step in range(40)
    ]
    page = open_page(write(write_run(tmp_path, *events)))
    for x in ("step", "wall", "relative"):
        page.get_by_label("X-axis").select_option(x)
        wait_for_curves(page, 7)
        for xs, ys in axis_labels(page):
            assert len(xs) == len(set(xs)) > 1, xs
            assert len(ys) == len(set(ys)) > 1, ys
    labels = [labels for _, labels in axis_labels(page)]
    ends = [({*map(float, each[:1])}, {*map(float, each[-1:])}) for each in labels[:3]]
    assert ends == [({0.0}, {100.0}), ({0.0}, {1.0}), ({-2.0}, {0.0})]


def test_marks_of_missing_values_stand_apart_and_below_the_curves(open_page, tmp_path, write):
    events = [Metrics(BEGAN + step, step, {"loss": math.nan if step % 500 else 1.0}) for step in range(1001)]
    page = open_page(write(write_run(tmp_path, *events)))
    wait_for_curves(page)
    page.evaluate("""() => {
        window.marks = [];
        CanvasRenderingContext2D.prototype.fillRect = (...args) => window.marks.push(args);
    }""")
    page.set_viewport_size({"width": 1200, "height": 900})
    until(page, "window.marks.length")
    page.wait_for_timeout(100)
    marks = page.evaluate("window.marks")
    inner, whole = page.locator(".u-over").bounding_box(), page.locator(".chart canvas").bounding_box()
    assert 20 < len(marks) < 300
    assert all(other[0] - one[0] >= 4 for one, other in itertools.pairwise(marks) if other[0] > one[0])
    assert min(top for _, top, _, _ in marks) >= inner["y"] + inner["height"] - whole["y"]


def axis_labels(page):
    """Draw all charts again, and return the labels of the x-axis and of the y-axis of each."""
    page.evaluate(REMEMBER_LABELS)
    page.set_viewport_size({"width": page.viewport_size["width"] - 20, "height": 900})
    until(page, "window.labels.size === document.querySelectorAll('.chart canvas').length")
    page.wait_for_timeout(100)
    return page.evaluate("[...window.labels.values()].map(({ center, right }) => [center, right])")


REMEMBER_LABELS = """() => {
    if (window.labels) return window.labels.clear();
    window.labels = new Map();
    const [drawn, cleared] = ["fillText", "clearRect"].map((name) => CanvasRenderingContext2D.prototype[name]);
    CanvasRenderingContext2D.prototype.clearRect = function (...args) {
        window.labels.set(this.canvas, { center: [], right: [] });
        cleared.apply(this, args);
    };
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        window.labels.get(this.canvas)?.[this.textAlign]?.push(text);
        drawn.call(this, text, ...rest);
    };
}"""


def test_a_drag_zooms_all_charts_and_a_double_click_resets(open_page, three):
    page = open_page(three)
    wait_for_curves(page, 2)
    whole = [drawing(page, 0), drawing(page, 1)]
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=5)
    page.mouse.up()
    until(page, "location.hash.includes('zoom')")
    assert [drawing(page, 0) != whole[0], drawing(page, 1) != whole[1]] == [True, True]
    page.locator(".u-over").nth(1).dblclick()
    until(page, "!location.hash.includes('zoom')")
    assert [drawing(page, 0), drawing(page, 1)] == whole
    page.evaluate("location.hash = 'zoom=[10,20]'")
    page.get_by_role("button", name="Reset zoom").click()
    until(page, "!location.hash.includes('zoom')")


def test_the_cursor_shows_all_runs_and_moves_in_all_charts(open_page, three):
    page = open_page(three)
    wait_for_curves(page, 3)
    page.locator(".u-over").first.hover()
    tip = page.locator(".tip")
    assert tip.locator("div:has(.swatch)").count() == 3
    assert re.search(r"step \d+", tip.inner_text())
    places = page.locator(".u-cursor-x").evaluate_all("lines => lines.map(line => line.getBoundingClientRect().x)")
    boxes = page.locator(".u-over").evaluate_all("all => all.map(each => each.getBoundingClientRect().x)")
    assert abs((places[0] - boxes[0]) - (places[1] - boxes[1])) < 3
    page.mouse.move(1, 1)
    tip.wait_for(state="hidden")


def test_a_run_alone_shows_its_values_beside_each_name(open_page, tmp_path, write):
    page = open_page(write(write_full_run(tmp_path)))
    wait_for_curves(page, 2)
    page.locator(".u-over").first.hover()
    assert all("step" in each for each in page.locator(".readout").all_inner_texts()[:2])


def test_smoothed_values_stand_beside_the_logged_ones_and_stay_in_the_chart(open_page, tmp_path, write):
    curve = [Metrics(BEGAN + step, step, {"loss": 100.0 if step < 50 else 0.0}) for step in range(100)]
    page = open_page(write(write_run(tmp_path, *curve)), "#smooth=0.9&zoom=[60,90]")
    wait_for_curves(page)
    page.locator(".u-over").first.hover()
    (readout,) = page.locator(".readout").all_inner_texts()
    assert re.fullmatch(r"[1-9][\d.]* smoothed, 0 logged · step \d+", readout)
    ((_, values),) = axis_labels(page)
    assert float(values[-1]) > 20
    runs = [write_run(tmp_path / "two", *curve, number=number) for number in range(2)]
    page = open_page(write(*runs), "#smooth=0.9")
    wait_for_curves(page)
    page.locator(".u-over").first.hover(position={"x": 300, "y": 60})
    heading, *rows = page.locator(".tip").inner_text().splitlines()
    assert heading.endswith("smoothed, as logged")
    assert all(re.match(r"[\d.]+, 0 ", each) for each in rows)


def test_the_filter_compares_whole_values_and_each_word_must_fit(open_page, tmp_path, write):
    described = [
        ("one", {"lr": 0.1, "seed": 1}),
        ("two", {"lr": 0.15, "seed": 1}),
        ("three", {"lr": 0.1, "optim": {"seed": 10}}),
    ]
    runs = [
        write_run(tmp_path, *rows(3), Finish(BEGAN + 9, "success" if number else "failed"), name=name, number=number,
                  tags=(f"tag{number}",), params=params)
        for number, (name, params) in enumerate(described)
    ]  # fmt: skip
    page = open_page(write(*runs), "#tab=runs")
    for text, names in {
        "lr=0.1": "three one",
        "lr=1e-1 seed=1": "one",
        "seed=10": "three",
        "seed=1.+": "three",
        "status=success": "three two",
        "tag=tag1": "two",
        "project=project lr=0.15": "two",
        "lr=0.1[5]": "two",
        "^t seed=1": "two",
        "lr<0.15": "three one",
        "lr>=0.1 lr<=0.1 seed<10": "one",
        "loss>2": "",
        "loss<2 seed>1": "three",
        "tag=": "",
        "w (": "two",
    }.items():
        page.get_by_label("Filter runs").fill(text)
        assert page.locator("tbody th").all_inner_texts() == names.split(), text


def test_system_metrics_come_last(open_page, tmp_path, write):
    measured = [Metrics(BEGAN, None, {name: 3.0}) for name in ("system/node1/gpu0/power", "system/cpu")]
    run = write_run(tmp_path, *measured, *rows(9), params={"lr": 1})
    page = open_page(write(run))
    assert [each.split("\n")[0] for each in page.locator(".group > summary bdi").all_inner_texts()] == [
        "train",
        "val",
        "system/node1",
        "system",
    ]
    page.get_by_role("tab", name="Runs").click()
    heads = page.locator("thead th button bdi").all_inner_texts()
    assert heads[-2:] == ["system/node1/gpu0/power", "system/cpu"]
    assert "train/loss" in heads


def test_search_finds_metrics_by_regular_expression(open_page, three):
    page = open_page(three)
    page.get_by_label("Search", exact=True).fill("^val/l.ss$")
    assert charts(page).count() == 1
    page.get_by_label("Search", exact=True).fill("val/(")
    assert page.get_by_label("Search", exact=True).get_attribute("aria-invalid") == "true"
    page.get_by_text("invalid expression").wait_for()
    page.get_by_label("Search", exact=True).fill("nothing like this")
    assert page.get_by_text("invalid expression").count() == 0
    assert page.get_by_text("No metric matches the search.").is_visible()


def test_a_chart_can_have_the_whole_width(open_page, three):
    page = open_page(three)
    wait_for_curves(page)
    before = page.locator(".chart canvas").first.bounding_box()["width"]
    page.get_by_role("button", name="Use the whole width").first.click()
    until(page, f"document.querySelector('.chart canvas').getBoundingClientRect().width > {1.5 * before}")
    assert "wide" in hash_of(page)


def test_runs_are_chosen_in_the_list_and_keep_their_colors(open_page, three):
    page = open_page(three)
    wait_for_curves(page)
    colors = page.locator(".list .swatch").evaluate_all(
        "all => all.map(each => getComputedStyle(each).backgroundColor)"
    )
    assert len(set(colors)) == 3
    whole = drawing(page)
    page.get_by_role("checkbox", name="draw run-1").uncheck()
    assert drawing(page) != whole
    assert page.locator(".runs summary").inner_text().split() == ["Runs", "2", "of", "3", "drawn"]
    after = page.locator(".list .swatch").evaluate_all("all => all.map(each => getComputedStyle(each).backgroundColor)")
    assert after == colors
    page.locator(".list li").first.hover()
    page.get_by_role("button", name="only").first.click()
    assert page.locator(".list input:checked").count() == 1
    page.get_by_role("button", name="none").click()
    assert page.get_by_text("no run is drawn").count() > 0
    page.get_by_role("button", name="all", exact=True).click()
    assert drawing(page) == whole


def test_the_table_of_runs_has_what_differs_first_and_is_sorted_and_filtered(open_page, three):
    page = open_page(three)
    page.get_by_role("tab", name="Runs").click()
    heads = page.locator("thead th button bdi").all_inner_texts()
    assert heads[:6] == ["run", "status", "started", "duration", "optimizer/name", "train/loss"]
    assert heads.index("lr") > heads.index("val/loss")
    names = page.locator("tbody th")
    assert names.all_inner_texts() == ["run-2", "run-1", "run-0"]
    page.get_by_role("button", name="optimizer/name").click()
    assert names.all_inner_texts() == ["run-0", "run-1", "run-2"]
    assert page.locator("th[aria-sort=ascending]").count() == 1
    heading = page.locator("th[aria-sort=ascending]")
    heading.click(position={"x": heading.bounding_box()["width"] - 3, "y": 3})  # beside its text
    assert names.all_inner_texts() == ["run-2", "run-1", "run-0"]
    page.get_by_label("Filter runs").fill("optimizer/name=text-[12]")
    assert names.all_inner_texts() == ["run-2", "run-1"]
    page.locator("tbody input").first.uncheck()
    page.get_by_role("tab", name="Charts").click()
    assert page.locator(".list input:checked").count() == 1


def test_the_table_shows_last_min_max_and_best_by_goal(open_page, tmp_path, write):
    runs = [write_full_run(tmp_path, 0), write_run(tmp_path, *rows(50, offset=-5), number=1)]
    page = open_page(write(*runs), "#tab=runs&q=^val/loss$")
    values = {}
    for stat in ("last", "min", "max", "best"):
        page.get_by_label("Value").select_option(stat)
        column = page.locator("thead th.metric").all_inner_texts()
        place = page.locator("thead tr > *").evaluate_all(
            "all => all.findIndex(each => each.classList.contains('metric'))"
        )
        values[stat] = page.locator(f"tbody tr:first-child > *:nth-child({place + 1})").inner_text()
        assert len(column) == 1
    assert (float(values["max"]), values["best"]) == (-3.99, values["min"])
    assert float(values["min"]) == float(values["last"])
    assert page.locator("td.best").count() == 1
    page.get_by_label("Value").select_option("all")
    assert len(page.locator("thead th.metric").all()) == 3


def test_media_of_every_kind_follow_the_slider(open_page, tmp_path, write):
    page = open_page(write(write_full_run(tmp_path)), "#tab=media")
    groups = [each.split("\n")[0] for each in page.locator(".group > summary").all_inner_texts()]
    assert [re.sub(r"\s*\d+$", "", each) for each in groups] == [
        "Images",
        "Figures",
        "Videos",
        "Audio",
        "Tables",
        "Texts",
        "Histograms",
    ]
    card = page.get_by_role("article", name="plain", exact=True).first
    assert card.get_by_text("plain at 99").is_visible()
    assert card.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    slider = card.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert card.get_by_text("plain at 50").is_visible()
    assert slider.get_attribute("aria-valuetext") == "step 50"
    sound = page.get_by_role("article", name="sound plain")
    sound.scroll_into_view_if_needed()
    sound.locator("audio").wait_for()
    until(page, "document.querySelector('audio').duration > 0.9")
    table = page.get_by_role("article", name="table plain")
    table.scroll_into_view_if_needed()
    assert table.locator("tbody td").all_inner_texts() == ["plain", "99", "b", "NaN"]
    text = page.get_by_role("article", name="text plain")
    text.scroll_into_view_if_needed()
    assert text.get_by_text("plain 99").is_visible()
    bars = page.get_by_role("article", name="weights/plain")
    bars.scroll_into_view_if_needed()
    assert bars.get_by_role("img", name="histogram of 105 values from 0 to 1").is_visible()
    assert bars.get_by_text("2 values not finite").is_visible()


def test_the_step_of_media_stands_in_the_address(open_page, tmp_path, write):
    path = write(write_full_run(tmp_path))
    page = open_page(path, "#tab=media")
    card = page.get_by_role("article", name="plain", exact=True).first
    card.get_by_role("slider").fill("1")
    card.get_by_text("plain at 50").wait_for()
    again = open_page(path, hash_of(page))
    again.get_by_role("article", name="plain", exact=True).first.get_by_text("plain at 50").wait_for()
    again.get_by_role("article", name="text plain").get_by_text("plain 99").wait_for()
    again.evaluate("location.hash = 'tab=media'")
    again.get_by_text("plain at 99").wait_for()
    assert "steps" not in hash_of(again)


def test_a_deleted_file_is_reported_by_its_logged_name(open_page, tmp_path, write):
    run_dir = write_full_run(tmp_path)
    for image in (run_dir / "media").rglob("*.png"):
        image.unlink()
    page = open_page(write(run_dir), "#tab=media")
    page.get_by_text("the file is missing, perhaps deleted by rankzero clean: plain-99.png").wait_for()


def test_texts_keep_their_lines(open_page, tmp_path, write):
    text = Text(BEGAN, "answer", ["text"], [["first\nsecond"]], 1)
    page = open_page(write(write_run(tmp_path, text)), "#tab=media")
    cell = page.get_by_role("cell", name="first")
    assert cell.inner_text().splitlines() == ["first", "second"]


def test_a_figure_that_could_run_scripts_is_only_saved(open_page, tmp_path, write):
    page = open_page(write(write_full_run(tmp_path)), "#tab=media")
    figure = page.get_by_role("article", name="figure plain")
    with page.expect_download() as download:
        figure.get_by_role("button", name="Save").click()
    assert download.value.path().read_bytes() == b"<script>alert(4)</script>"


def test_media_of_several_runs_stand_beside_each_other(open_page, tmp_path, write):
    page = open_page(write(*(write_full_run(tmp_path, number, f"run-{number}") for number in range(2))), "#tab=media")
    card = page.get_by_role("article", name="plain", exact=True).first
    assert card.locator(".of bdi").all_inner_texts() == ["run-0", "run-1"]
    page.get_by_role("checkbox", name="draw run-0").uncheck()
    card = page.get_by_role("article", name="plain", exact=True).first
    card.get_by_text("plain at 99").wait_for()
    assert card.locator(".of bdi").all_inner_texts() == ["run-1"]


def test_what_is_left_out_is_said(open_page, tmp_path, write):
    page = open_page(write(write_full_run(tmp_path), max_media=20_000), "#tab=media")
    assert page.get_by_text(re.compile(r"^\d+ files? \(.* kB\) left out of this page")).is_visible()
    sound = page.get_by_role("article", name="sound plain")
    sound.locator("audio").wait_for()  # the newest is there
    sound.get_by_role("slider").fill("0")
    assert sound.get_by_text("left out:").is_visible()


def test_details_have_parameters_files_deliveries_and_the_console(open_page, tmp_path, write):
    run = write_full_run(tmp_path)
    loggers = {"csv": {"plugin": "csv", "options": {}}}
    other = write_run(tmp_path, *rows(5), name="waiting", number=1, loggers=loggers)
    page = open_page(write(run, other))
    page.locator(".list").get_by_role("button", name="everything").click()
    details = page.locator(".details")
    assert "optimizer/name" in details.inner_text()
    assert (
        page.get_by_role("log").inner_text().endswith("second line\n")
        or "step 99 plain" in page.get_by_role("log").inner_text()
    )
    assert "plain" in details.get_by_text("Artifacts").locator("..").inner_text()
    assert "project project · tags demo, plain" in details.locator(".run").inner_text()
    assert not page.get_by_label("Search", exact=True).is_visible()
    page.keyboard.press("n")
    page.get_by_role("heading", name="waiting").wait_for()
    deliveries = details.get_by_text("Deliveries").locator("..").inner_text()
    assert "behind" in deliveries
    assert "csv" in deliveries
    assert details.get_by_role("combobox", name="run").input_value() == "1"
    details.get_by_role("combobox", name="run").select_option("0")
    page.get_by_role("heading", name="everything").wait_for()


REMEMBER_TEXTS = """() => {
    window.texts = [];
    const drawn = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        window.texts.push(text);
        drawn.call(this, text, ...rest);
    };
}"""


def test_resumes_rewinds_and_ends_are_marked_and_rewound_points_are_drawn_on_request(open_page, tmp_path, write):
    page = open_page(write(write_rewound_run(tmp_path)))
    wait_for_curves(page)
    survived = drawing(page)
    page.evaluate(REMEMBER_TEXTS)
    page.get_by_role("button", name="rewound", exact=True).click()
    until(page, "['↻', '↶', '✕'].every(each => window.texts.includes(each))")
    assert drawing(page) != survived
    page.get_by_role("button", name="rewound", exact=True).click()
    assert drawing(page) == survived
    plain = write_run(tmp_path / "plain", *rows(60))
    assert open_page(write(plain)).get_by_role("button", name="rewound", exact=True).count() == 0


def test_details_say_what_happened_to_a_run(open_page, tmp_path, write):
    source = write_run(tmp_path, *rows(10), name="source")
    fork = write_run(
        tmp_path,
        *rows(5),
        Params(BEGAN, {"forked_from": {"run": source.name, "step": 4}}),
        *(Metrics(BEGAN + 100 + step, step, {"train/loss": 1.0}) for step in range(5, 10)),
        Rewind(BEGAN + 101, 5),
        Finish(BEGAN + 102, "failed", "RuntimeError: <b>no memory"),
        name="fork",
        number=1,
    )
    page = open_page(write(source, fork), "#tab=details")  # of the newest run
    heading = page.locator(".details .run")
    text = heading.inner_text()
    assert "forked from source at step 4" in text
    assert re.search(r"rewound .* to step 5", text)
    assert "RuntimeError: <b>no memory" in text
    page.keyboard.press("1")
    wait_for_curves(page)
    page.evaluate(REMEMBER_TEXTS)
    page.get_by_title("Draw only this run").first.click()
    page.get_by_label("X-axis").select_option("relative")
    until(page, "window.texts.includes('46 s')")  # without the copied points, which took no time here


def test_dark_and_light(open_page, three):
    background = "getComputedStyle(document.body).backgroundColor"
    for scheme in ("light", "dark"):
        page = open_page(three, color_scheme=scheme)
        before = page.evaluate(background)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        page.get_by_role("button", name="Dark or light").click()
        assert page.evaluate(background) != before
        assert f"theme={'light' if scheme == 'dark' else 'dark'}" in hash_of(page)


def test_keys(open_page, three):
    page = open_page(three)
    wait_for_curves(page)
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="keyboard shortcuts").is_visible()
    page.keyboard.press("Escape")
    for key, part in {"l": "logy=true", "k": "logx=true", "x": "x=epoch", "s": "smooth=0.1", "d": "theme="}.items():
        page.keyboard.press(key)
        assert part in hash_of(page), key
    page.keyboard.press("S")
    assert "smooth" not in hash_of(page)
    page.keyboard.press("/")
    page.keyboard.type("loss")
    assert "q=loss" in hash_of(page)
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.keyboard.type("run-1")
    assert "filter=run-1" in hash_of(page)
    page.keyboard.press("Escape")
    for key, tab in {"2": "runs", "3": "media", "4": "details"}.items():
        page.keyboard.press(key)
        assert f"tab={tab}" in hash_of(page)
        assert page.get_by_role("tab", selected=True).get_attribute("id") == f"tab-{tab}"
    page.keyboard.press("1")
    page.keyboard.press("c")
    assert "closed" in hash_of(page)
    page.keyboard.press("a")
    assert "runs=" in hash_of(page)
    page.evaluate("location.hash = 'zoom=[1,5]'")
    until(page, "!document.querySelector('.bar button:disabled')")
    page.keyboard.press("r")
    assert "zoom" not in hash_of(page)


@pytest.mark.parametrize("text", [HOSTILE, BACKWARDS, "a" * 10_000, "nul \0 and \x1b[31m", "${7*7}{{7*7}}"])
def test_hostile_names_and_texts_are_shown_as_text(open_page, tmp_path, write, text):
    page = open_page(write(write_full_run(tmp_path, 0, text, text), write_full_run(tmp_path, 1, "other", text)))
    wait_for_curves(page)
    for tab in ("Runs", "Media", "Details", "Charts"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), tab
    page.keyboard.press("3")
    for card in page.locator(".card").all():
        card.scroll_into_view_if_needed()
    page.wait_for_timeout(100)
    assert page.locator("script[src], iframe, object, embed, [onerror]").count() == 0
    assert page.evaluate(
        "document.querySelectorAll('script').length === document.body.querySelectorAll(':scope > script').length"
    )


def test_an_injected_script_does_not_run(open_page, three):
    page = open_page(three)
    page.evaluate("""() => {
        window.ran = false;
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        addEventListener('securitypolicyviolation', () => { window.refused = true; });
        document.body.append(script);
    }""")
    until(page, "window.refused")
    assert page.evaluate("window.ran") is False
    (refusal,) = open_page.problems
    assert "Content Security Policy" in refusal
    open_page.problems.clear()


def test_a_narrow_page_does_not_scroll_sideways(open_page, three):
    for tab in ("charts", "runs", "media", "details"):
        page = open_page(three, f"#tab={tab}", width=400, height=800)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab


def test_controls_have_names_and_texts_have_contrast(open_page, three):
    for scheme in ("light", "dark"):
        page = open_page(three, color_scheme=scheme)
        wait_for_curves(page)
        unnamed = page.locator("button, input, select").evaluate_all(
            "all => all.filter(each => !(each.innerText || each.ariaLabel || each.labels?.length)).length"
        )
        assert unnamed == 0
        for selector in (".note, .count, .field > span", "h1, h3, summary, button:not(:disabled)"):
            assert min(page.locator(selector).evaluate_all(CONTRAST)) >= 4.5, (scheme, selector)


CONTRAST = """all => {
    const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((each) => {
            each /= 255;
            return each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (each) => {
        for (; each; each = each.parentElement) {
            const color = getComputedStyle(each).backgroundColor;
            if (!color.startsWith("rgba(") ) return color;
        }
        return "rgb(255, 255, 255)";
    };
    return all.filter((each) => each.offsetParent).map((each) => {
        const [one, other] = [light(getComputedStyle(each).color), light(behind(each))];
        return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    });
}"""


@pytest.mark.slow
def test_two_hundred_metrics_of_ten_thousand_points_scroll(open_page, tmp_path, write):
    names = [f"{'train' if number % 2 else 'val'}/metric_{number}" for number in range(200)]
    page = open_page(write(write_run(tmp_path, *rows(10_000, names))))
    wait_for_curves(page)
    assert charts(page).count() == 200
    assert page.locator(".chart canvas").count() < 40  # only those near the screen
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    until(page, "document.querySelectorAll('.chart')[199].querySelector('canvas') !== null")
    assert page.locator(".chart canvas").count() < 40


@pytest.mark.slow
def test_a_hundred_runs(open_page, tmp_path, write):
    runs = [write_run(tmp_path, *rows(1000, ["loss"]), name=f"run-{number}", number=number) for number in range(100)]
    page = open_page(write(*runs))
    wait_for_curves(page)
    assert "50 of 100 drawn" in page.locator(".runs summary").inner_text()
    page.get_by_role("button", name="all", exact=True).click()
    assert "100 of 100 drawn" in page.locator(".runs summary").inner_text()
    page.get_by_role("tab", name="Runs").click()
    assert page.locator("tbody tr").count() == 100

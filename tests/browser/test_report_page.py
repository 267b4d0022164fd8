"""Report page in a browser: slider, contrast, narrow screens, no script.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import json

import numpy as np
import pytest

from keras_cascade.evaluation.report import write_report
from keras_cascade.evaluation.report.mistakes import picture_or_text
from keras_cascade.evaluation.report.page import fixed
from tests.helpers.contrast import CONTRAST
from tests.helpers.report_examples import (
    bounds_of,
    example_results,
    report_of,
)

pytestmark = pytest.mark.browser

#: Name in the page's data to factor and decimals on the page.
SHOWN = {
    "accuracy": (100, 2),
    "delegation_rate": (100, 2),
    "amortized_cost": (1, 3),
    "accuracy_drop_bound": (100, 2),
    "delegation_rate_bound": (100, 2),
    "amortized_cost_bound": (1, 3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report with pictures and a class name that is markup."""
    results = example_results()
    report = report_of(results, bounds=bounds_of(example_results(600, seed=1)))
    pixels = np.random.default_rng(0).random((12, 8, 8, 1))
    shown = [picture_or_text(one) for one in pixels]
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, report, results, shown)
    return folder


@pytest.fixture
def open_page(browser, folder):
    """Opens the page; fails at the end on console output or requests."""
    contexts, troubles = [], []

    def opened(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        address = (folder / "report.html").as_uri()
        page.on(
            "request",
            lambda request: (
                troubles.append(request.url)
                if request.url != address and request.url[:5] != "data:"
                else None
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def slider(folder):
    """The slider's object in report.json."""
    return json.loads((folder / "report.json").read_text())["slider"]


def assert_shows(page, slider, index):
    """Every number that the page shows is that of report.json."""
    assert page.locator("#threshold").input_value() == str(index)
    for name, (factor, decimals) in SHOWN.items():
        expected = fixed(factor * slider[name][index], decimals)
        texts = page.locator(f"[data-show={name}]").all_inner_texts()
        assert texts == [expected] * len(texts) != []
    threshold = page.locator("[data-show=threshold]").inner_text()
    last = len(slider["threshold"]) - 1
    if index in (0, last):
        assert threshold == ("above" if index else "below") + " every score"
    else:
        assert float(threshold) == pytest.approx(
            slider["threshold"][index], abs=1e-5
        )
    words = page.locator("#threshold").get_attribute("aria-valuetext")
    accuracy = fixed(100 * slider["accuracy"][index], 2)
    rate = fixed(100 * slider["delegation_rate"][index], 2)
    assert f"accuracy {accuracy} %, {rate} % delegated" in words
    assert f"threshold {threshold}" in words


def marker_position(page):
    """Centre of the marker, in pixels."""
    box = page.locator("#marker").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_slider_by_keyboard(open_page, slider):
    page = open_page()
    control = page.locator("#threshold")
    start, last = slider["start"], len(slider["threshold"]) - 1
    assert_shows(page, slider, start)
    while not control.evaluate("e => e === document.activeElement"):
        page.keyboard.press("Tab")
    assert control.evaluate("e => getComputedStyle(e).outlineStyle") != "none"
    for key, index in (
        ("ArrowRight", start + 1),
        ("ArrowRight", start + 2),
        ("ArrowLeft", start + 1),
        ("Home", 0),
        ("ArrowRight", 1),
        ("End", last),
        ("ArrowLeft", last - 1),
    ):
        page.keyboard.press(key)
        assert_shows(page, slider, index)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the button beside it
    assert_shows(page, slider, start)
    assert control.evaluate("e => e === document.activeElement")


def test_every_threshold_shows_its_own_numbers(open_page, slider):
    page = open_page()
    for index in range(0, len(slider["threshold"]), 37):
        page.locator("#threshold").fill(str(index))
        assert_shows(page, slider, index)


def test_the_guarantees_stand_on_one_side(open_page, slider):
    page = open_page()
    accuracy, budget = page.locator("[data-stands] .verdict").all()
    places = {-1: slider["start"] - 1, 0: slider["start"]}
    places[1] = slider["start"] + 1
    for side, index in places.items():
        page.locator("#threshold").fill(str(index))
        below = "does not stand here, below the calibrated threshold"
        above = "does not stand here, above the calibrated threshold"
        assert accuracy.inner_text() == (below if side < 0 else "stands here")
        assert budget.inner_text() == (above if side > 0 else "stands here")
    status = page.locator("[role=status]")
    before = status.inner_text()
    page.locator("#threshold").fill("0")
    assert status.inner_text() != before


def test_the_marker_moves_along_the_curve(open_page, slider):
    page = open_page(viewport={"width": 1000, "height": 800})
    calibrated = page.locator("#deferral-chart .calibrated").bounding_box()
    start = marker_position(page)
    assert start == pytest.approx(
        (
            calibrated["x"] + calibrated["width"] / 2,
            calibrated["y"] + calibrated["height"] / 2,
        ),
        abs=0.5,
    )
    ends = []
    for index in (0, len(slider["threshold"]) - 1):
        page.locator("#threshold").fill(str(index))
        ends.append(marker_position(page))
    # Along x it is as far as what is delegated.
    share = (start[0] - ends[0][0]) / (ends[1][0] - ends[0][0])
    assert share == pytest.approx(
        slider["delegation_rate"][slider["start"]], abs=0.005
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_readable_in_light_and_dark_on_a_phone_and_a_desk(
    open_page, scheme, width
):
    page = open_page(
        color_scheme=scheme, viewport={"width": width, "height": 740}
    )
    # A broken guarantee has a colour of its own.
    page.locator("#threshold").fill("0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrast = page.evaluate(CONTRAST)
    assert {"text.end", "TD.null", "SPAN.verdict"} <= set(contrast)
    assert {n: c for n, c in contrast.items() if c < 4.5} == {}
    background = page.evaluate(
        "getComputedStyle(document.body).backgroundColor"
    )
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    labels = page.locator("#deferral-chart text").all()
    assert min(one.bounding_box()["height"] for one in labels) >= 10
    boxes = [one.bounding_box() for one in labels]
    svg = page.locator("#deferral-chart").bounding_box()
    for box in boxes:
        assert box["x"] >= svg["x"] - 1
        assert box["x"] + box["width"] <= svg["x"] + svg["width"] + 1
    assert page.locator(".mistakes img").first.evaluate("e => e.naturalWidth")


def test_without_script_the_calibrated_numbers_are_there(open_page, slider):
    page = open_page(java_script_enabled=False)
    assert not page.locator("#threshold").is_visible()
    for name, (factor, decimals) in SHOWN.items():
        expected = fixed(factor * slider[name][slider["start"]], decimals)
        assert page.locator(f"[data-show={name}]").inner_text() == expected
    assert page.get_by_text("stands here").count() == 2

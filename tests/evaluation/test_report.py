"""The report's files: numbers, escaping, and all or nothing."""

import base64
import dataclasses
import html.parser
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_cascade.evaluation import ExampleResults
from keras_cascade.evaluation.report import FILES, write_report
from keras_cascade.evaluation.report.charts import (
    Chart,
    cost_decimals,
    threshold_decimals,
)
from keras_cascade.evaluation.report.mistakes import (
    hardest_mistakes,
    picture_or_text,
)
from keras_cascade.evaluation.report.numbers import slider_values
from keras_cascade.evaluation.report.page import fixed, metric_rows, percent
from tests.helpers.example_columns import columns
from tests.helpers.report_examples import (
    COSTS,
    GUARANTEES,
    NASTY,
    bounds_of,
    example_results,
    operating_point,
    report_of,
)


class Page(html.parser.HTMLParser):
    """Elements and visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self._inside = [], [], []
        self.scripts = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style", "title"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.words.append(data)
        elif self._inside[-1] == "script":
            self.scripts[self.elements[-1][1].get("id")] = data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def strict(text):
    """JSON without NaN and infinity."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def written(folder, report, results, shown=()):
    """Writes a report and reads it again."""
    file = write_report(folder, report, results, shown)
    assert file == folder / "report.html"
    assert sorted(f.name for f in folder.iterdir()) == sorted(FILES)
    text = file.read_text(encoding="utf-8")
    numbers = strict((folder / "report.json").read_text(encoding="utf-8"))
    return numbers, text, Page(text)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    results = example_results(weighted=True)
    bounds = bounds_of(example_results(600, seed=1))
    report = report_of(results, bounds=bounds)
    folder = tmp_path_factory.mktemp("report")
    return results, bounds, *written(folder, report, results)


def test_the_numbers_are_those_of_the_examples(example):
    results, bounds, numbers, _, _ = example

    def mean(values):
        return pytest.approx(np.average(values, weights=results.sample_weight))

    student, teacher = results.student_correct, results.teacher_correct
    delegated = results.scores < np.float32(0.5)
    assert numbers["threshold"] == 0.5
    assert numbers["student_accuracy"] == mean(student)
    assert numbers["teacher_accuracy"] == mean(teacher)
    assert numbers["cascade_accuracy"] == mean(
        np.where(delegated, teacher, student)
    )
    assert numbers["delegation_rate"] == mean(delegated)
    assert numbers["amortized_cost"] == pytest.approx(
        0.0625 + numbers["delegation_rate"]
    )
    slider = numbers["slider"]
    assert slider["threshold"][slider["start"]] == 0.5
    for index, threshold in enumerate(slider["threshold"]):
        delegated = results.scores < np.float32(threshold)
        rate = mean(delegated)
        assert slider["delegation_rate"][index] == rate
        assert slider["accuracy"][index] == mean(
            np.where(delegated, teacher, student)
        )
        assert slider["amortized_cost"][index] == pytest.approx(
            0.0625 + rate.expected
        )
        for name in ("accuracy_drop", "delegation_rate"):
            bound = float(getattr(bounds, name)(np.float32(threshold)))
            assert slider[f"{name}_bound"][index] == bound
        assert slider["amortized_cost_bound"][index] == pytest.approx(
            0.0625 + slider["delegation_rate_bound"][index]
        )
    assert (slider["confidence"], slider["examples"]) == (0.9, 600)
    assert [p["stands"] for p in slider["guarantees"]] == ["above", "below"]
    rows = {row["name"]: row for row in numbers["rows"]}
    assert rows["cascade"]["cost"] == numbers["amortized_cost"]
    assert rows["teacher alone"]["cost"] == 1.0


def test_the_page_holds_the_same_object_and_works_without_a_script(example):
    _, _, numbers, _, page = example
    assert strict(page.scripts["slider-data"]) == numbers["slider"]
    for words in (
        "Measured on 500 test examples",
        "guarantee 0", "guarantee 1",
        percent(numbers["cascade_accuracy"]),
        percent(numbers["delegation_rate"]),
        f"{fixed(numbers['amortized_cost'], 3)} teacher passes",
        "points less accurate than the teacher",
        "stands here",
        "cdcdcdcdcdcdcdcd", "efefefefefefefef", "abababababababab",
        "MarginGate", "keras 3", "given <by hand>",
    ):  # fmt: skip
        assert words in page.text
    assert "hidden" in dict(page.elements[ids(page).index("controls")][1])


def ids(page):
    return [attributes.get("id") for _, attributes in page.elements]


def test_the_page_is_well_made_and_loads_nothing(example):
    _, _, _, text, page = example
    assert page.named("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and set(headings[1:]) == {"h2"}
    assert "http://" not in text and "https://" not in text
    assert "//" not in page.scripts["slider-data"]
    for _, attributes in page.elements:
        assert not attributes.get("src") or attributes["src"][:5] == "data:"
        assert "href" not in attributes
    known = ids(page)
    for name in ("for", "aria-labelledby", "aria-describedby"):
        for _, attributes in page.elements:
            assert attributes.get(name, known[0]) in known
    ours = [name for name in known if name]
    assert len(ours) == len(set(ours))


def test_nothing_from_the_data_becomes_markup(tmp_path):
    results = example_results()
    point = operating_point()
    bad = "</script><img src=x onerror=alert(1)>\u2028"
    costs = dataclasses.replace(COSTS, unit=bad, how_measured=bad)
    report = report_of(results, point)
    report |= {
        "title": bad, "dataset": bad, "traffic": bad,
        "guarantees": [bad, bad], "facts": {bad: bad},
        "costs": dataclasses.asdict(costs), "weights": {bad: bad},
        "versions": {bad: bad},
    }  # fmt: skip
    report["slider"]["unit"] = bad
    report["slider"]["guarantees"] = [
        {**guarantee, "group": bad}
        for guarantee in report["slider"]["guarantees"]
    ]
    shown = [{"text": bad} for _ in report["mistakes"]]
    numbers, _, page = written(tmp_path, report, results, shown)
    assert len(page.named("script")) == 2
    assert page.named("img") == []
    assert strict(page.scripts["slider-data"]) == numbers["slider"]
    assert NASTY in page.text
    assert page.text.count(bad.strip()) > len(shown)


def test_texts_pictures_and_rows_are_shown(tmp_path):
    results = example_results()
    report = report_of(results)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    shown = [picture_or_text(pixels), picture_or_text(b"two\nlines"), {}]
    report["mistakes"] = report["mistakes"][:3]
    _, _, page = written(tmp_path, report, results, shown)
    (image,) = page.named("img")
    row = report["mistakes"][0]["row"]
    assert image["alt"] == f"Test example {row}"
    header, data = image["src"].split(",")
    assert header == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert "matplotlib" not in str(picture.info)
        np.testing.assert_array_equal(picture.convert("RGB"), pixels)
    assert "two lines" in page.text
    assert f"row {report['mistakes'][2]['row']}" in page.text


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (np.linspace(0, 1, 4, dtype="float32").reshape(2, 2, 1), "image"),
        ({"only": np.zeros((3, 2, 3), np.uint8)}, "image"),
        (np.array("text"), "text"),
        (np.array(["text"], dtype=object), "text"),
        (np.array(["two", "texts"]), None),
        (np.full((2, 2, 1), 200.0), None),  # not in [0, 1]
        (np.full((2, 2, 1), np.nan), None),
        (np.zeros((2, 2, 1), np.int64), None),
        (np.zeros((2, 2, 4)), None),
        (np.zeros((0, 2, 1)), None),
        (np.zeros(5), None),
        ([np.zeros((2, 2, 1)), np.zeros((2, 2, 1))], None),
    ],
)
def test_what_can_be_shown(one, kind):
    assert list(picture_or_text(one)) == ([] if kind is None else [kind])


def test_grey_pictures_keep_their_values_and_long_texts_end():
    grey = np.array([[0.0, 0.25], [0.5, 0.5]])[..., None]
    _, data = picture_or_text(grey)["image"].split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        found = np.asarray(picture.convert("RGB"))
    # A colour map of 256 greys: the value itself, not stretched to white.
    np.testing.assert_allclose(found[..., 0] / 255, grey[..., 0], atol=1 / 255)
    text = picture_or_text(b"\xff" + b"x" * 10_000)["text"]
    assert text.startswith("\ufffdx") and text.endswith("…")
    assert len(text) == 600


@given(columns(), st.floats(-11, 11), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_the_hardest_mistakes_by_brute_force(case, threshold, most):
    scores, student, teacher, weight = case
    results = ExampleResults(
        scores, student, teacher, weight,
        labels=np.zeros(len(scores), int),
        student_labels=np.where(student, 0, 1),
        student_confidence=np.full(len(scores), 0.5),
    )  # fmt: skip
    expected = sorted(
        (-score, row)
        for row, score in enumerate(scores)
        if score >= threshold
        and not student[row]
        and (weight is None or weight[row] > 0)
    )[:most]
    found = hardest_mistakes(results, threshold, most)
    assert [(-m["score"], m["row"]) for m in found] == expected
    for mistake in found:
        assert mistake["teacher_right"] == teacher[mistake["row"]]


@given(columns(), st.floats(-11, 11))
@settings(max_examples=100, deadline=None)
def test_every_slider_has_its_ends_and_the_threshold(case, threshold):
    scores, student, teacher, weight = case
    results = ExampleResults(scores, student, teacher, weight)
    slider = slider_values(results, threshold)
    thresholds = np.array(slider["threshold"])
    assert (np.diff(thresholds) > 0).all()
    assert thresholds[slider["start"]] == threshold
    assert slider["delegation_rate"][0] == 0
    assert slider["delegation_rate"][-1] == 1
    for index, one in enumerate(thresholds):
        right = np.where(scores < one, teacher, student)
        assert slider["accuracy"][index] == pytest.approx(
            np.average(right, weights=weight)
        )
    # Every set of decisions can be reached: there are few scores.
    assert len(thresholds) >= len(np.unique(scores)) + 1
    assert slider["amortized_cost"] is None
    assert slider["accuracy_drop_bound"] is None


def test_a_long_slider_is_thinned_and_keeps_what_matters():
    results = example_results(20_000)
    slider = slider_values(results, float(np.float32(0.123456)))
    assert 390 <= len(slider["threshold"]) <= 401
    limits = np.finfo("float32")
    assert slider["threshold"][0] == limits.min
    assert slider["threshold"][-1] == limits.max
    assert np.float32(slider["threshold"][slider["start"]]) == np.float32(
        0.123456
    )


@pytest.mark.parametrize("end", [0, -1])
def test_a_threshold_at_an_end_is_said_in_words(tmp_path, end):
    results = example_results()
    limits = np.finfo("float32")
    threshold = float([limits.min, limits.max][end])
    report = report_of(results, operating_point(threshold))
    numbers, _, page = written(tmp_path, report, results)
    slider = numbers["slider"]
    assert slider["threshold"][end] == threshold
    assert slider["start"] == range(len(slider["threshold"]))[end]
    words = ["below every score", "above every score"][end]
    assert words in page.text
    if end == -1:
        assert "makes no mistake" in page.text
        assert "keeps nothing" in page.text


def test_what_is_not_known_is_said(tmp_path):
    results = example_results()
    bare = ExampleResults(
        results.scores, results.student_correct, results.student_correct
    )
    report = report_of(bare, operating_point(guarantees=[]))
    numbers, _, page = written(tmp_path, report, bare)
    assert numbers["mistakes"] is None
    for words in (
        "its objective guarantees nothing about new examples",
        "Undefined: the student's confidence is not known",
        "Undefined: the labels are not known",
        f"undefined: {numbers['summary']['undefined']['deferral.score']}",
    ):
        assert words in page.text


def test_a_traffic_mix_is_told(tmp_path):
    results = example_results(weighted=True)
    report = report_of(results, traffic="a 80.0 %, b & c 20.0 %")
    _, _, page = written(tmp_path, report, results)
    weight = results.sample_weight
    worth = weight.sum() ** 2 / (weight @ weight)
    assert "Traffic mix: a 80.0 %, b & c 20.0 %." in page.text
    assert f"are worth {worth:.0f} unweighted ones" in page.text


def test_a_failure_leaves_the_old_report_as_it_was(tmp_path):
    results = example_results()
    report = report_of(results)
    write_report(tmp_path, report, results)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    for bad in ({"seed": float("nan")}, {"rows": None}):
        with pytest.raises((ValueError, TypeError)):
            write_report(tmp_path, report | bad, results)
        assert {
            file.name: file.read_bytes() for file in tmp_path.iterdir()
        } == before


def test_rounding_is_that_of_javascript():
    # Exact binary ties; toFixed takes the larger, away from zero.
    assert fixed(0.125, 2) == "0.13"
    assert fixed(-0.125, 2) == "-0.13"
    assert fixed(2.5, 0) == "3"
    assert fixed(1.005, 2) == "1.00"  # 1.00499999999999989...
    assert fixed(3.0, 3) == "3.000"


def test_metrics_show_intervals_where_there_are_some():
    report = report_of(example_results())
    rows = {
        row["name"]: row
        for row in metric_rows(report["summary"], report["costs"], 3)
    }
    interval = report["summary"]["bootstrap"]["score"]
    low, high = (f"{interval[end]:.4f}" for end in ("low", "high"))
    assert rows["Deferral score"]["interval"] == f"{low} to {high}"
    assert rows["AURC"]["interval"] == ""
    goal = report["summary"]["reach_teacher"][0]
    (row,) = (row for name, row in rows.items() if "reach 99 %" in name)
    assert row["value"] == f"{fixed(goal['amortized_cost'], 3)} teacher passes"


@pytest.mark.parametrize(
    ("teacher", "decimals"), [(1.0, 3), (2_000.0, 0), (0.00004, 8), (42.0, 2)]
)
def test_costs_are_shown_to_four_digits(teacher, decimals):
    assert cost_decimals({"teacher": teacher, "network": 0.0}) == decimals


def test_thresholds_are_shown_to_six_digits_of_their_spread():
    assert threshold_decimals([-9e9, 0.0, 0.5, 1.0, 9e9]) == 5
    assert threshold_decimals([-9e9, 0.0, 0.001, 9e9]) == 8
    assert threshold_decimals([-9e9, 9e9]) == 6


def test_a_chart_places_shares_on_its_frame():
    chart = Chart([[0.5, 0.9]])
    frame = chart.frame
    assert (frame["low"], frame["high"]) == (
        pytest.approx(0.46),
        pytest.approx(0.94),
    )
    assert chart.x(0) == frame["left"]
    assert chart.x(1) == frame["left"] + frame["width"]
    assert chart.y(frame["high"]) == frame["top"]
    assert chart.y(frame["low"]) == frame["top"] + frame["height"]
    assert [label for _, label in chart.y_ticks] == [
        "50",
        "60",
        "70",
        "80",
        "90",
    ]
    flat = Chart([[1.0, 1.0]])
    assert flat.frame["low"] < flat.frame["high"] == 1.0


def test_guarantees_are_those_of_the_point():
    slider = slider_values(example_results(), 0.5, GUARANTEES)
    assert slider["guarantees"] == [
        {**GUARANTEES[0], "stands": "above"},
        {**GUARANTEES[1], "stands": "below"},
    ]

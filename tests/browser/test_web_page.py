"""The page of `keras-cascade serve --web`, in a browser.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import contextlib
import io
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
from PIL import Image

from keras_cascade.bundle import Bundle
from keras_cascade.evaluation import Costs
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess
from tests.helpers.contrast import CONTRAST

pytestmark = pytest.mark.browser

OPTIONS = ["--web", "--cors-origin", "none"]
CONTROLS = "button, input, select, textarea, canvas"
#: Number of controls on the page that a screen reader has no name for.
UNNAMED = """(controls) => [...document.querySelectorAll(controls)].filter(
  (e) => !(e.textContent.trim() || e.getAttribute("aria-label")
    || e.labels?.[0]?.textContent.trim())).length"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def images_server(web_bundles, folder):
    log = folder / "images.log"
    with ServerProcess(web_bundles["int8"], log, options=OPTIONS) as server:
        yield server


@pytest.fixture
def open_page(browser):
    """Opens the page of a server; no other origin may be asked."""
    with contextlib.ExitStack() as stack:

        def opened(server, **options):
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            origin = server.url.partition("/v1/")[0]
            asked, errors = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{origin}/web")
            page.wait_for_selector("[data-ready], [data-failed]")
            assert page.locator("html").get_attribute("data-failed") is None
            local = (origin, "data:", "blob:")
            assert [url for url in asked if not url.startswith(local)] == []
            assert any(url.endswith(".wasm") for url in asked)
            assert errors == []
            return page

        yield opened


def draw(page, steps=((0.3, 0.3), (0.7, 0.3), (0.5, 0.8))):
    """Draws a line through points of the canvas, and waits for the answer."""
    before = page.locator("#count").inner_text()
    box = page.locator("#canvas").bounding_box()
    x, y, *size = (box[name] for name in ("x", "y", "width", "height"))
    points = [(x + size[0] * a, y + size[1] * b) for a, b in steps]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "(before) => document.getElementById('count').textContent !== before"
        " || document.getElementById('error').textContent",
        arg=before,
    )


def wait_for_text(page, name, pattern):
    """Waits until an element's text matches a regular expression."""
    page.wait_for_function(
        "([name, pattern]) =>"
        " RegExp(pattern).test(document.getElementById(name).textContent)",
        arg=[name, pattern],
    )


def source(page):
    return page.locator("#who").get_attribute("data-source")


def draw_until(page, delegated):
    """Draws lines until one is delegated, or until one is kept."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        page.locator("#clear").click()
        draw(page, rng.uniform(0.1, 0.9, (rng.integers(2, 8), 2)))
        if page.locator("#error").inner_text() or delegated == (
            source(page) != "edge"
        ):
            return
    raise AssertionError("No such drawing.")


def test_kept_and_delegated_drawings(open_page, images_server):
    page = open_page(images_server)
    draw_until(page, delegated=True)
    assert source(page) == "cloud"
    assert "on the server" in page.locator("#who").inner_text()
    assert page.locator("#sent").inner_text() != "0 B"
    assert "below the threshold" in page.locator("#compared").inner_text()
    draw_until(page, delegated=False)
    assert "in this page" in page.locator("#who").inner_text()
    assert page.locator("#sent").inner_text() == "0 B"
    assert "or above the threshold" in page.locator("#compared").inner_text()
    count = int(page.locator("#count").inner_text())
    share = float(page.locator("#share").inner_text().removesuffix(" %")) / 100
    costs = Costs(**Bundle.load(images_server.bundle).manifest["costs"])
    assert 0 < share < 1
    assert float(page.locator("#cost").inner_text()) == pytest.approx(
        costs.amortized(round(share * count) / count), rel=0.01
    )


def test_an_uploaded_picture_is_read_as_in_python(
    open_page, images_server, images
):
    """A picture of the model's size times 35: no filter is involved."""
    pixels = np.round(images[4, ..., 0] * 255).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((35, 35), "uint8"))).save(
        file, "PNG"
    )
    page = open_page(images_server)
    picture = {"name": "x.png", "mimeType": "image/png"}
    page.locator("#file").set_input_files(
        {**picture, "buffer": file.getvalue()}
    )
    wait_for_text(page, "count", "[1-9]")
    with EdgeCascade.load(images_server.bundle) as edge:
        expected = edge.predict_alone(pixels[None, ..., None] / np.float32(255))
    shown = page.locator("#student").inner_text()
    assert shown.startswith(f"{expected.names[0]}, ")
    page.locator("#file").set_input_files({**picture, "buffer": b"no picture"})
    wait_for_text(page, "error", ".")
    assert "Expected a picture" in page.locator("#error").inner_text()


def test_the_camera(open_page, images_server):
    page = open_page(images_server, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    wait_for_text(page, "count", "[1-9]")
    assert page.locator("#video").is_hidden()


def test_keys_alone(open_page, images_server):
    page = open_page(images_server)
    while page.evaluate("document.activeElement.id") != "canvas":
        page.keyboard.press("Tab")
    for key in ("ArrowUp", "Shift+ArrowDown", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    wait_for_text(page, "count", "[1-9]")
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
        width = "getComputedStyle(document.activeElement).outlineWidth"
        if page.evaluate("document.activeElement !== document.body"):
            visible = page.evaluate(width) != "0px"
            assert visible or seen[-1] == "file"  # its label has the outline
    assert {"clear", "file", "camera", "point", "policy", "token"} <= set(seen)


def test_names_for_screen_readers(open_page, images_server):
    page = open_page(images_server)
    assert page.evaluate(UNNAMED, CONTROLS) == 0
    for name in ("Input", "Answer", "So far", "Settings"):
        assert page.get_by_role("region", name=name).count() == 1
    assert page.locator("#answer").get_attribute("role") == "status"
    assert page.locator("#error").get_attribute("role") == "alert"
    assert page.get_by_role("combobox").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_small_and_large_in_light_and_dark(
    open_page, images_server, folder, width, scheme
):
    page = open_page(
        images_server,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
    )
    draw_until(page, delegated=True)
    page.screenshot(path=folder / f"{width}_{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRAST)
    assert min(ratios.values()) >= 4.5, ratios
    heights = page.locator("button:visible, select").evaluate_all(
        "(all) => all.map((e) => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44


def test_policies_with_the_server_stopped(open_page, web_bundles, folder):
    log = folder / "stopped.log"
    bundle = web_bundles["int8"]
    with ServerProcess(bundle, log, options=OPTIONS) as server:
        page = open_page(server)
    draw_until(page, delegated=True)
    assert source(page) == "edge_fallback"
    for policy, shown in (("abstain", "abstained"), ("queue", "queued")):
        page.select_option("#policy", policy)
        draw_until(page, delegated=True)
        assert source(page) == shown
        assert page.locator("#label").inner_text() == "No answer"
    assert page.locator("#waiting").inner_text() == "1 input waits."
    page.select_option("#policy", "raise")
    draw_until(page, delegated=True)
    assert "cannot be reached" in page.locator("#error").inner_text()
    with ServerProcess(bundle, log, port=server.port, options=OPTIONS):
        send = page.get_by_role("button", name="Send the queue")
        for _ in range(30):  # the page waits after failures before it asks
            send.click()
            page.wait_for_timeout(1000)
            if page.locator("#late li").count():
                break
    assert "answered by the teacher" in page.locator("#late").inner_text()
    assert page.locator("#waiting").inner_text() == "0 inputs wait."


def test_texts(open_page, web_bundles, folder):
    bundle = web_bundles["text"]
    with ServerProcess(bundle, folder / "text.log", options=OPTIONS) as server:
        page = open_page(server)
        page.get_by_role("textbox", name="Text").fill("Where is my card?")
        page.keyboard.press("Control+Enter")
        wait_for_text(page, "count", "[1-9]")
        with EdgeCascade.load(bundle, server.url) as edge:
            expected = edge.predict("Where is my card?")
        # A class name that is markup is text.
        assert page.locator("#label").inner_text() == expected.names[0]
        assert source(page) == expected.source[0]
        page.get_by_role("textbox", name="Text").fill(" ")
        page.get_by_role("button", name="Ask").click()
        wait_for_text(page, "error", ".")
        error = page.locator("#error").inner_text()
    message = "Expected text in input 'input'. Received white space alone."
    assert error == message


def test_the_teacher_asks_for_a_token_and_the_page_does_not(
    open_page, web_bundles, folder
):
    token = "a-token-of-some-length"
    (folder / "tokens").write_text(token)
    options = ["--web", "--token-file", str(folder / "tokens")]
    log = folder / "token.log"
    with ServerProcess(web_bundles["int8"], log, options=options) as server:
        page = open_page(server)
        page.select_option("#policy", "raise")
        draw_until(page, delegated=True)
        assert "answered status 401" in page.locator("#error").inner_text()
        page.locator("#token").fill(token)
        page.locator("#token").press("Tab")
        draw_until(page, delegated=True)
        assert source(page) == "cloud"
        origin = server.url.partition("/v1/")[0]
        for name in ("teacher/1/saved_model.pb", "../../secret"):
            answer = httpx.get(f"{origin}/web/bundle/{name}")
            assert answer.status_code in (401, 404)


SERVE_PAGE = """import sys
from rich.console import Console
from keras_cascade.cli.demo import serve_page
serve_page(sys.argv[1], Console())
"""


def test_the_page_after_the_demo(web_bundles):
    """Until Ctrl-C; the server ends with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE_PAGE, web_bundles["int8"]],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        shown = next(one for one in process.stdout if one.startswith("Page: "))
        url = shown.split()[1]
        assert httpx.get(url).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)

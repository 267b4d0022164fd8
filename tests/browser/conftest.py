"""Fixtures: a headless browser, bundles, a site with the npm package."""

import shutil

import keras
import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_digits

import keras_cascade as kc
from tests.helpers.web_package import Site

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser():
    """A headless browser."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.fail(
            f"Expected a browser out of {BROWSERS} on PATH. Install one, on "
            "Debian with `apt-get install chromium`."
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
            ],
        )
        yield started
        started.close()


@pytest.fixture(scope="package")
def images():
    """1,000 pictures of digits, float32 in [0, 1]."""
    return (load_digits().images[:1000, ..., None] / 16).astype("float32")


@pytest.fixture(scope="package")
def texts():
    """1,000 questions, some in letters beyond ASCII or longer than read."""
    rng = np.random.default_rng(5)
    words = [
        "card", "rate", "Where", "is", "my", "ÉTÉ", "naïve", "Straße", "你好",
        "don't", "🇫🇷", "Привет", "unbelievably", "stop...", "nb\u00a0space",
    ]  # fmt: skip
    return [
        f"{' '.join(rng.choice(words, size=rng.integers(1, 20)))} {number}?"
        for number in range(1000)
    ]


@pytest.fixture(scope="package")
def web_bundles(tmp_path_factory, images, texts):
    """Dict of name to bundle: `float32`, `int8`, `text`; two with ONNX."""
    folder = tmp_path_factory.mktemp("web_bundles")
    keras.utils.set_random_seed(1)
    labels = load_digits().target[:1000].astype("int32")
    cascade = _cascade(
        *(kc.models.image_student((8, 8, 1), 10, width=n) for n in (16, 4)),
        images,
        labels,
    )
    points = {"frugal": kc.MaxDelegationRate(0.1)}
    cascade.export(folder / "float32", onnx="student", operating_points=points)
    cascade.export(
        folder / "int8", quantization="int8", operating_points=points
    )
    texts = np.array(texts, object)
    kinds = np.array([len(text) % 3 for text in texts], "int32")
    tokenizer = kc.text.train_tokenizer(texts, vocabulary_size=120, lengths=16)
    own = kc.text.train_tokenizer(texts, 90, lowercase=False, lengths=[24, 64])
    cascade = _cascade(
        *(
            kc.text.TextModel(kc.models.text_bag(one.vocabulary_size, 3), one)
            for one in (own, tokenizer)
        ),
        texts,
        kinds,
    )
    names = ["none", "<b>one</b>", "two"]
    cascade.export(folder / "text", onnx="student", class_names=names)
    return {file.name: file for file in folder.iterdir()}


def _cascade(teacher, student, x, y):
    teacher.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x[:600], y[:600], epochs=4, verbose=0)
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer=keras.optimizers.Adam(1e-2))
    cascade.fit(x[:600], y[:600], epochs=3, verbose=0)
    cascade.calibrate((x[600:], y[600:]), kc.MaxDelegationRate(0.3))
    return cascade


@pytest.fixture(scope="package")
def web_site(web_bundles):
    """A web site with the npm package and, at `/NAME/`, each bundle."""
    with Site(**web_bundles) as site:
        yield site


@pytest.fixture
def page(browser, web_site):
    """A page of the site, whose script can use `cascade`, the package."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(web_site.url)
    page.wait_for_function("window.cascade")
    yield page
    context.close()

"""Runs the script of `docs/browser.md` in a page.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import re

import pytest

from keras_cascade.serving import ServerProcess
from tests.helpers.documents import ROOT, blocks
from tests.helpers.web_package import WEB

pytestmark = pytest.mark.browser

DOCUMENT = "docs/browser.md"


def test_the_script(page, web_site, web_bundles, tmp_path):
    (script,) = blocks(DOCUMENT, "js")
    options = ["--cors-origin", web_site.url]
    with ServerProcess(
        web_bundles["float32"], tmp_path / "log", options=options
    ) as server:
        script = (
            script.replace('import { EdgeCascade } from "keras-cascade";', "")
            .replace("bundle/", "/float32/")
            .replace('"wasm/"', '"/node_modules/@litertjs/core/wasm/"')
            .replace("http://127.0.0.1:8501", server.url.partition("/v1/")[0])
        )
        lines = page.evaluate(
            "async () => { const { EdgeCascade } = cascade, lines = [];"
            "const console = { log: (...all) => lines.push(all) };"
            f"{script} return lines; }}"
        )
    ((name, score, source), *_) = lines
    assert name in map(str, range(10))
    assert 0 <= score <= 1
    assert source in ("edge", "cloud")


def test_every_option_is_in_the_table():
    source = (WEB / "src" / "edge-cascade.ts").read_text("utf-8")
    options = source.partition("interface LoadOptions {")[2].partition("\n}")[0]
    names = set(re.findall(r"^  (\w+)\?:", options, re.M))
    text = (ROOT / DOCUMENT).read_text("utf-8")
    table = text.partition("| option of")[2].partition("\n\n")[0]
    assert names and names <= set(re.findall(r"`(\w+)`", table))


def test_it_is_short():
    assert len((ROOT / DOCUMENT).read_text("utf-8").splitlines()) <= 150

"""Executes TFLite files in LiteRT.js, in a headless Chromium."""

import base64
import json
import os
import shutil
from pathlib import Path

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.runtime.student_interpreter import OUTPUTS

#: Folder of npm packages with `@litertjs/core` in it.
FOLDER = "KERAS_CASCADE_NODE_MODULES"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: No server listens there: the files are handed to the browser directly.
ORIGIN = "http://127.0.0.1:9"
#: Rows that are handed over at a time.
ROWS = 256
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
}
ARRAYS = {"float32": "Float32Array", "int32": "Int32Array"}
PAGE = """<!doctype html>
<script type="importmap">
{"imports": {
  "@litertjs/core": "/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "/@litertjs/wasm-utils/dist/index.js"
}}
</script>
<script type="module">
import * as core from "@litertjs/core";
const arrays = { Float32Array, Int32Array };
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
let model;
window.open_ = async (content) => {
  // Without relaxed SIMD, whose results depend on the machine.
  await core.loadLiteRt(
    "/@litertjs/core/wasm/litert_wasm_compat_internal.js");
  model = await core.loadAndCompile(bytes(content), { accelerator: "wasm" });
};
window.run = async (rows, inputs, names) => {
  const columns = inputs.map(({ name, array, shape, data }) => {
    const values = new arrays[array](bytes(data).buffer);
    return { name, shape, values, size: values.length / rows };
  });
  const answers = [];
  for (let row = 0; row < rows; row++) {
    const tensors = {};
    for (const { name, shape, values, size } of columns) {
      tensors[name] = new core.Tensor(
        values.slice(row * size, (row + 1) * size), shape);
    }
    const outputs = await model.run(tensors);
    const answer = {};
    for (const name of names) {
      answer[name] = Array.from(await outputs[name].data(), (value) =>
        Number.isFinite(value) ? value : null);
    }
    answers.push(answer);
    for (const one of [...Object.values(tensors), ...Object.values(outputs)]) {
      if (!one.deleted) one.delete();
    }
  }
  return JSON.stringify(answers);
};
window.ready = true;
</script>
"""


class LiteRtJsStudent:
    """Runs a bundle's TFLite file row by row, in LiteRT.js.

    Args:
        content: bytes of a TFLite file of one row.
        name: str, the file's name, for errors.
        specs: list of its inputs, as in the manifest.
        shapes: dict of input name to the shape of a row.

    Attributes:
        version: str, of `@litertjs/core`.

    Raises:
        ExportError: a browser, Playwright or `@litertjs/core` is not
            installed, or LiteRT.js cannot run the file.
    """

    def __init__(self, content: bytes, name: str, specs: list, shapes: dict):
        self._name = name
        self._shapes = {key: [1, *shape] for key, shape in shapes.items()}
        self._arrays = {}
        for spec in specs:
            if spec["dtype"] not in ARRAYS:
                raise ExportError(
                    f"The runtime 'litertjs' takes inputs of {list(ARRAYS)}. "
                    f"Received: '{spec['name']}' of {spec['dtype']}."
                )
            self._arrays[spec["name"]] = ARRAYS[spec["dtype"]]
        packages, executable, playwright = _installed()
        package = packages / "@litertjs/core/package.json"
        self.version = json.loads(package.read_text("utf-8"))["version"]
        self._playwright = playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox"]
            )
            self._page = self._browser.new_page()
            self._page.route("**/*", lambda route: _answer(route, packages))
            self._page.goto(f"{ORIGIN}/page.html")
            self._page.wait_for_function("window.ready === true")
            self._evaluate("content => window.open_(content)", _text(content))
        except BaseException:
            self.close()
            raise

    def row_shapes(self) -> dict[str, list[int]]:
        """Returns the sizes of one row per input."""
        return {name: shape[1:] for name, shape in self._shapes.items()}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch, row by row.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`.
        """
        answers: list = []
        count = len(next(iter(inputs.values())))
        for start in range(0, count, ROWS):
            part = {k: v[start : start + ROWS] for k, v in inputs.items()}
            rows = len(next(iter(part.values())))
            columns = [
                {
                    "name": name,
                    "array": self._arrays[name],
                    "shape": self._shapes[name],
                    "data": _text(np.ascontiguousarray(values).tobytes()),
                }
                for name, values in part.items()
            ]
            answers += json.loads(
                self._evaluate(
                    "given => window.run(...given)",
                    [rows, columns, list(OUTPUTS)],
                )
            )
        outputs = {
            name: np.array([row[name] for row in answers], "float32")
            for name in OUTPUTS
        }
        return {
            "probabilities": outputs["probabilities"],
            "score": outputs["score"][:, 0],
            "delegate": outputs["delegate"][:, 0].astype("int32"),
        }

    def close(self) -> None:
        """Ends the browser."""
        self._playwright.stop()

    def _evaluate(self, function, argument):
        try:
            return self._page.evaluate(function, argument)
        except Exception as error:  # Playwright's own, which is optional
            text = " ".join(str(error).split())[:300]
            raise ExportError(
                f"LiteRT.js cannot run '{self._name}': {text} Export the "
                "bundle again with this version."
            ) from error


def _installed():
    """`(folder of packages, path of a browser, Playwright's entry)`."""
    folder = Path(os.environ.get(FOLDER, "node_modules")).resolve()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    missing = [
        what
        for what, found in (
            (
                f"the npm packages '@litertjs/core' and "
                f"'@litertjs/wasm-utils' in '{folder}', or in the folder that "
                f"{FOLDER} names",
                (folder / "@litertjs/core/dist/index.js").is_file()
                and (folder / "@litertjs/wasm-utils/dist/index.js").is_file(),
            ),
            (f"a browser out of {list(BROWSERS)}", executable),
            ("the Python package 'playwright'", sync_playwright),
        )
        if not found
    ]
    if missing:
        raise ExportError(
            "The runtime 'litertjs' is not installed. It needs "
            f"{'; '.join(missing)}."
        )
    return folder, executable, sync_playwright


def _answer(route, packages):
    """Answers a request of the page from the packages' files."""
    path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
    file = packages / path.lstrip("/")
    if path == "/page.html":
        route.fulfill(content_type=TYPES[".html"], body=PAGE)
    elif ".." not in path and file.suffix in TYPES and file.is_file():
        route.fulfill(content_type=TYPES[file.suffix], body=file.read_bytes())
    else:
        route.abort()


def _text(content):
    return base64.b64encode(content).decode("ascii")

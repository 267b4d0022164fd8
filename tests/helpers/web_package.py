"""The npm package of `web/`, built, and a web site that has it."""

import functools
import http.server
import shutil
import subprocess
import threading
from pathlib import Path

from tests.helpers.documents import ROOT

WEB = ROOT / "web"
PAGE = """<!doctype html><meta charset="utf-8"><title>test</title>
<script type="importmap">{"imports": {
  "@litertjs/core": "/node_modules/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js",
  "onnxruntime-web/wasm":
    "/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"
}}</script>
<script type="module">
import * as cascade from "/keras-cascade.js";
window.cascade = cascade;
</script>"""


def npm(*arguments):
    """Runs npm in `web/`, or raises with what it printed."""
    found = subprocess.run(
        ["npm", *arguments], cwd=WEB, capture_output=True, text=True
    )
    if found.returncode:
        raise RuntimeError(
            f"`npm {' '.join(arguments)}` in web/ ended with status "
            f"{found.returncode}: {found.stdout[-2000:]} {found.stderr[-2000:]}"
        )
    return found.stdout


def built_package():
    """Folder of the built package; builds it where a source is newer."""
    if shutil.which("npm") is None:
        raise RuntimeError("Expected Node with npm on PATH, to build web/.")
    if not (WEB / "node_modules" / ".package-lock.json").exists():
        npm("ci", "--no-audit", "--no-fund")
    built = WEB / "dist" / "keras-cascade.js"
    sources = [*(WEB / "src").iterdir(), *(WEB / "page").iterdir()]
    newest = max(file.stat().st_mtime for file in sources)
    if not built.exists() or built.stat().st_mtime < newest:
        npm("run", "build")
    return WEB / "dist"


class Site:
    """A web site on this machine, in a `with` block.

    Args:
        bundles: dict of name to a bundle's folder, served at `/NAME/`.
    """

    def __init__(self, **bundles):
        package = built_package()
        self._folders = {"node_modules": WEB / "node_modules"} | bundles
        self._package = package / "keras-cascade.js"

    def __enter__(self):
        handler = functools.partial(_Handler, self._folders, self._package)
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), handler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {
        ".html": "text/html",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def __init__(self, folders, package, *arguments):
        self._folders, self._package = folders, package
        super().__init__(*arguments)

    def do_GET(self):
        if self.path in ("/", "/keras-cascade.js"):
            is_page = self.path == "/"
            content = PAGE.encode() if is_page else self._package.read_bytes()
            self.send_response(200)
            kind = "text/html" if is_page else "text/javascript"
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        super().do_GET()

    def translate_path(self, path):
        name, _, rest = path.split("?")[0].lstrip("/").partition("/")
        folder = Path(self._folders.get(name, "/nonexistent"))
        return str(folder / rest)

    def log_message(self, *_):
        pass

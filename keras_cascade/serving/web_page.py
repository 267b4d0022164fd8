"""Web page that runs a bundle in a browser, and the files that it reads."""

import hashlib
import mimetypes
from pathlib import Path

from starlette.responses import JSONResponse, RedirectResponse, Response

from keras_cascade.bundle import BundleError
from keras_cascade.bundle.manifest import MANIFEST, manifest_content

#: Where the page is.
PATH = "/web/"
BUNDLE = "bundle/"
#: Written by `npm run build` in `web/`.
FOLDER = Path(__file__).parent / "page"
COMPRESSED = ".gz"
HEADERS = {
    # Scripts, styles and WebAssembly of this server only, pictures and video
    # of the user. The teacher is this server.
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
        "style-src 'self'; img-src 'self' data: blob:; "
        "media-src blob: mediastream:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # A bundle that replaces this one has the same file names.
    "cache-control": "no-cache",
}
TYPES = {".js": "text/javascript", ".wasm": "application/wasm"}


class WebPage:
    """ASGI middleware that answers requests for the page below `/web/`.

    The page needs no token: it is loaded before its user can type one. So the
    bundle's device files are readable for whoever reaches the server. The
    teacher is not.

    Args:
        service: `TeacherService`, whose teacher states the device files.

    Attributes:
        path: str, where the page is.

    Raises:
        FileNotFoundError: this installation has no page.
    """

    path = PATH

    def __init__(self, service):
        check_page()
        self._service = service
        self._files = {
            file.relative_to(FOLDER).as_posix(): file.read_bytes()
            for file in FOLDER.rglob("*")
            if file.is_file()
        }

    def wrap(self, app):
        """Returns the ASGI application with the page in front of it.

        Args:
            app: ASGI application.
        """

        async def with_page(scope, receive, send):
            is_page = scope["type"] == "http" and (
                scope["path"] == PATH.rstrip("/")
                or scope["path"].startswith(PATH)
            )
            await (self._answer(scope) if is_page else app)(
                scope, receive, send
            )

        return with_page

    def _answer(self, scope):
        if scope["method"] not in ("GET", "HEAD"):
            return _error(
                405, "Expected the method GET.", {"allow": "GET, HEAD"}
            )
        if scope["path"] == PATH.rstrip("/"):
            return RedirectResponse(PATH)
        name = scope["path"].removeprefix(PATH) or "index.html"
        headers = dict(HEADERS)
        if name.startswith(BUNDLE):
            files = self._service.teacher.device_files
            content = files.get(name.removeprefix(BUNDLE))
        else:
            content = self._files.get(name)
            if content is None and f"{name}{COMPRESSED}" in self._files:
                accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
                if b"gzip" not in accepted:
                    return _error(406, "Expected 'accept-encoding: gzip'.")
                content = self._files[f"{name}{COMPRESSED}"]
                headers["content-encoding"] = "gzip"
        if content is None:
            return _error(404, f"The page has no file '{name[:80]}'.")
        kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
        return Response(
            content, 200, headers, kind or "application/octet-stream"
        )


def check_page():
    """Raises a `FileNotFoundError` where this installation has no page."""
    if not (FOLDER / "index.html").is_file():
        raise FileNotFoundError(
            "Expected the web page in this installation of keras_cascade. "
            "Received one that was installed from sources without it. Run "
            "`npm ci` and `npm run build` in the sources' folder web/, with "
            "Node 20 or later, or install keras_cascade from a wheel."
        )


def device_files(bundle):
    """Returns the files of a bundle that a browser may need.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        Dict of path in the bundle to bytes.

    Raises:
        BundleError: a file was altered or replaced since the bundle was
            loaded, or the bundle is of another task than one class per
            example, which no browser runs.
    """
    manifest = bundle.manifest
    if not bundle.answer_form.one_class:
        raise BundleError(
            "Expected a bundle of one class per example for the page at "
            f"/web/. Received: '{bundle.path}', of the task "
            f"{manifest['task']['class']}. Serve it without --web."
        )
    parts = (
        manifest["student"],
        manifest["student"].get("text"),
        (manifest.get("teacher") or {}).get("text"),
        manifest.get("onnx", {}).get("student"),
    )
    names = {part["file"] for part in parts if part is not None}
    files = {name: bundle.read(name) for name in sorted(names)}
    content = manifest_content(bundle.path / MANIFEST)
    if hashlib.sha256(content).hexdigest() != bundle.manifest_sha256:
        raise BundleError(f"'{bundle.path}' was replaced while it was read.")
    return {MANIFEST: content, **files}


def _error(status, message, headers=None):
    return JSONResponse({"error": message}, status, headers)

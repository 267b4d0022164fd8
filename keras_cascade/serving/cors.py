"""Cross-origin requests: which web pages a browser lets ask the teacher."""

from urllib.parse import urlsplit

from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    ROWS_HEADER,
    TIMEOUT_HEADER,
    TOP_K_HEADER,
)

ANY = "*"
METHODS = ("GET", "HEAD", "POST")
#: Headers that a page's request may carry. `authorization` is one that the
#: page sets itself: no cookie and no certificate of the browser is involved,
#: so that `*` is safe beside tokens.
REQUEST_HEADERS = (
    "authorization",
    "content-type",
    ROWS_HEADER,
    "x-request-id",
    TIMEOUT_HEADER,
    TOP_K_HEADER,
)
#: Headers of a response that a page's script may read.
RESPONSE_HEADERS = ("retry-after", IDENTITY_HEADER, "x-request-id")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def checked_origins(origins):
    """Tuple of the origins of web pages, as browsers state them.

    Args:
        origins: str, or list of str: `"https://shop.example"`, with the port
            where it is not the scheme's own, or `"*"` for any page.

    Raises:
        ValueError: no origin that a browser would send.
    """
    origins = (origins,) if isinstance(origins, str) else tuple(origins)
    for origin in origins:
        usual = ANY if origin == ANY else _as_browsers_write(origin)
        if usual is None or usual != origin:
            hint = "" if usual is None else f" Write '{usual}'."
            raise ValueError(
                "Expected the origin of a web page as browsers send it, such "
                "as 'https://shop.example' or 'http://localhost:8080', or "
                f"'{ANY}' for any page. Received: {origin!r}.{hint}"
            )
    return origins


def with_cors(app, origins):
    """ASGI application that answers preflight requests of web pages.

    It stands before authorization, as a preflight carries no token, and adds
    its headers to errors too: without them a script cannot read the status.

    Args:
        app: ASGI application.
        origins: tuple of `checked_origins`. Empty: `app` as it is.
    """
    if not origins:
        return app
    from starlette.middleware.cors import CORSMiddleware

    from keras_cascade.serving.rest_v2 import JSON_LENGTH

    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=(*REQUEST_HEADERS, JSON_LENGTH),
        expose_headers=(*RESPONSE_HEADERS, JSON_LENGTH),
    )


def error_headers(
    origins: tuple[str, ...], origin: str | None
) -> list[tuple[bytes, bytes]]:
    """CORS headers of an error that is written before the application runs.

    Args:
        origins: tuple of `checked_origins`.
        origin: str, the request's header `origin`; `None` where it has none,
            or where its head has not arrived.

    Returns:
        List of names and values, for the head of the response.
    """
    if not origins:
        return []
    headers = [] if ANY in origins else [(b"vary", b"Origin")]
    if ANY in origins:
        allowed = ANY
    elif origin is None and len(origins) == 1:
        # The browser compares it with the page's: another one reads nothing.
        allowed = origins[0]
    elif origin in origins:
        allowed = origin
    else:
        return headers
    from keras_cascade.serving.rest_v2 import JSON_LENGTH

    exposed = ", ".join((*RESPONSE_HEADERS, JSON_LENGTH))
    return [
        *headers,
        (b"access-control-allow-origin", allowed.encode()),
        (b"access-control-expose-headers", exposed.encode()),
    ]


def _as_browsers_write(origin):
    """Scheme, host and unusual port of an address; `None` if it has none."""
    try:
        parts = urlsplit(origin)
        # Hosts that a browser shows in letters, it sends in ASCII.
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port
    except (AttributeError, ValueError):
        return None
    if not parts.scheme or not host or ANY in host:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"

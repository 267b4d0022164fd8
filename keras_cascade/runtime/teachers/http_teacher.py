"""Base class of teachers at an HTTP URL, and its client."""

from __future__ import annotations

import json
import os
import ssl
import urllib.parse
import urllib.request

import httpcore

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_deadline import DeadlineBackend
from keras_cascade.runtime.teachers.remote_teacher import (
    RemoteTeacher,
    is_this_machine,
)

CONNECTIONS = 64
IDLE_SECONDS = 60.0
SHOWN = 300  # bytes of an error's answer that a message shows
READ = 64 * 1024  # bytes of it that are read, so that the connection is kept
#: Statuses of a server, or a proxy before it, that is busy or restarting.
RETRIED = (429, 502, 503, 504)
#: Statuses that are about the inputs of the request.
ABOUT_INPUT = (400, 413, 415, 422)


class HttpTeacher(RemoteTeacher):
    """A teacher at an `http://` or `https://` URL.

    Arguments as in `RemoteTeacher`.
    """

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _prepare(self):
        self.url = _checked_url(self.url)
        parsed = urllib.parse.urlsplit(self.url)
        self._warn_of_open_token(parsed.hostname, parsed.scheme == "https")
        self._client = HttpClient(
            self.url,
            self.timeout,
            self._max_response_bytes,
            self._token,
            self._ca_file,
        )

    def _post(self, url, body, headers, rows):
        """Asks about `rows` rows; returns `(headers, body)` of the answer."""
        with self._reported(rows) as report:
            return self._client.request(
                "POST", url, body, {**headers, **report}
            )

    def _json(self, content):
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TeacherError(
                f"The teacher at {self.url} did not answer in JSON.",
                invalid_answer=True,
            ) from error


class HttpClient:
    """HTTP client for one teacher: bounded in time and size, thread-safe.

    Connections are kept for later requests.

    Args:
        url: str, the teacher's URL.
        timeout: float, seconds for a whole request, from the name's
            resolution to the answer's last byte.
        max_response_bytes: int, longer answers are not read.
        token: str or `None`, sent as `Authorization: Bearer`.
        ca_file: path or `None`, certificates to trust in place of the
            system's.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        max_response_bytes: int,
        token: str | None,
        ca_file: str | os.PathLike | None,
    ):
        self._timeout = timeout
        self._max_bytes = max_response_bytes
        self._headers = {"User-Agent": "keras-cascade", "Accept": "*/*"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._backend = DeadlineBackend()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls_context(ca_file) if url[:5] == "https" else None,
            proxy=_proxy(url),
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self._backend,
        )

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Sends one request and reads its whole answer.

        Args:
            method: str, `"GET"` or `"POST"`.
            url: str.
            body: bytes or `None`.
            headers: dict of further headers. Defaults to `None`.

        Returns:
            `(headers, body)`: dict of lower-case name to value, and bytes.

        Raises:
            TeacherError: no answer in time, a status other than 200, or an
                answer that is too long.
        """
        try:
            with self._backend.within(self._timeout):
                status, answer_headers, content = self._exchange(
                    method, url, body, {**self._headers, **(headers or {})}
                )
        except httpcore.TimeoutException as error:
            raise TeacherError(
                f"The teacher at {url} did not answer within {self._timeout} "
                f"s ({type(error).__name__}). Is it overloaded? Pass a "
                "longer `timeout`, or smaller batches.",
                retryable=True,
            ) from error
        except httpcore.LocalProtocolError as error:
            raise TeacherError(
                f"The request to {url} is not valid HTTP: {error}"
            ) from error
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.ProxyError,
        ) as error:
            raise _no_answer_error(url, error) from error
        if status != 200:
            raise _status_error(url, status, answer_headers, content)
        return answer_headers, content

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def _exchange(self, method, url, body, headers):
        with self._pool.stream(
            method,
            url,
            headers=headers,
            content=body,
            extensions={"timeout": {"pool": self._timeout}},
        ) as response:
            answer_headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            encoding = answer_headers.get("content-encoding")
            if encoding is not None:
                raise TeacherError(
                    f"The teacher at {url} answered in the encoding "
                    f"'{encoding}', which was not asked for.",
                    invalid_answer=True,
                )
            limit = self._max_bytes
            if response.status != 200:
                limit = min(limit, READ)
            content = bytearray()
            for part in response.iter_stream():
                content += part
                if len(content) > limit:
                    break
            if response.status == 200 and len(content) > limit:
                raise TeacherError(
                    f"The teacher at {url} answered with more than {limit} "
                    "bytes. Pass a larger `max_response_bytes`, or smaller "
                    "batches.",
                    invalid_answer=True,
                )
        return response.status, answer_headers, bytes(content)


def _checked_url(url):
    """Returns an HTTP URL without a slash at its end."""
    try:
        parsed = urllib.parse.urlsplit(url)
        usable = (
            parsed.scheme in ("http", "https")
            and parsed.hostname
            and parsed.port != 0
            and not parsed.query
            and not parsed.fragment
            and parsed.username is None
            and url.isascii()
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "Expected a URL such as "
            f"'http://127.0.0.1:8501/v1/models/teacher'. Received: '{url}'."
        )
    return url.rstrip("/")


def _tls_context(ca_file):
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            "Expected `ca_file` to be a file of PEM certificates. Received: "
            f"'{ca_file}' ({type(error).__name__}: {error})."
        ) from None


def _proxy(url):
    parsed = urllib.parse.urlsplit(url)
    # A proxy of the environment has no way back to this machine.
    if is_this_machine(parsed.hostname) or urllib.request.proxy_bypass(
        parsed.hostname
    ):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parsed.scheme) or proxies.get("all")
    if not proxy:
        return None
    if not proxy.startswith("http://"):
        # TLS inside of TLS would bypass `http_deadline`'s writes.
        raise ValueError(
            "Expected the environment's proxy at an http:// URL. Received: "
            f"'{proxy.partition('://')[0]}://...'. List the teacher's host in "
            "`no_proxy` to ask it directly."
        )
    at = urllib.parse.urlsplit(proxy)
    auth = None
    if at.username is not None:
        auth = tuple(
            map(urllib.parse.unquote, (at.username, at.password or ""))
        )
    host = at.netloc.rpartition("@")[2]
    return httpcore.Proxy(f"{at.scheme}://{host}", auth=auth)


def _no_answer_error(url, error):
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLError):
        return TeacherError(
            f"There is no trusted connection to {url} ({cause}). For a "
            "private authority pass `ca_file=`, its certificates."
        )
    return TeacherError(
        f"The teacher does not answer at {url} ({type(error).__name__}: "
        f"{error}). Is it running? Start it with `keras-cascade serve BUNDLE`.",
        retryable=True,
    )


def _status_error(url, status, headers, content):
    text = " ".join(content[:SHOWN].decode("utf-8", "replace").split())
    advice = {
        401: " Pass the right `token=`.",
        403: " Pass a `token=` that may ask this teacher.",
        404: " Is the model's name in the URL right?",
    }.get(status, "")
    return TeacherError(
        f"The teacher at {url} answered status {status}: {text}{advice}",
        retryable=status in RETRIED,
        retry_after=_seconds(headers.get("retry-after")),
        refused=400 <= status < 500 and status != 429,
        about_input=status in ABOUT_INPUT,
    )


def _seconds(text):
    """Returns `Retry-After` in seconds; its other form, a date, is ignored."""
    return float(text) if text is not None and text.isdecimal() else None

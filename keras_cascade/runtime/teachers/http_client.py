"""HTTP for teachers: bounded in time and in size, connections kept."""

import ipaddress
import ssl
import urllib.parse
import urllib.request

import httpcore

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_deadline import DeadlineBackend

CONNECTIONS = 64
IDLE_SECONDS = 60.0
SHOWN = 300  # bytes of an error's answer that a message shows
READ = 64 * 1024  # bytes of it that are read, so that the connection is kept
#: Statuses of a server, or a proxy before it, that is busy or restarting.
RETRIED = (429, 502, 503, 504)
#: Statuses that speak about what was sent.
ABOUT_INPUT = (400, 413, 415, 422)


class HttpClient:
    """Sends requests to one teacher, from any number of threads.

    Args:
        url: str, the teacher's URL.
        timeout: float, seconds for a whole request, from the name's
            resolution to the answer's last byte.
        max_response_bytes: int, longer answers are not read.
        token: str or `None`, sent as `Authorization: Bearer`.
        ca_file: path or `None`, certificates to trust in place of the
            system's.
    """

    def __init__(self, url, timeout, max_response_bytes, token, ca_file):
        self._timeout = timeout
        self._max_bytes = max_response_bytes
        self._headers = {"User-Agent": "keras-cascade", "Accept": "*/*"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._backend = DeadlineBackend()
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context(ca_file) if url[:5] == "https" else None,
            proxy=_proxy(url),
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self._backend,
        )

    def request(self, method, url, body=None, headers=()):
        """One request and its whole answer.

        Args:
            method: str, `"GET"` or `"POST"`.
            url: str.
            body: bytes or `None`.
            headers: dict of further headers.

        Returns:
            `(headers, body)`: dict of lower-case name to value, and bytes.

        Raises:
            TeacherError: no answer in time, a status other than 200, or an
                answer that is too long.
        """
        try:
            with self._backend.within(self._timeout):
                status, found, content = self._exchange(
                    method, url, body, {**self._headers, **dict(headers)}
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
            raise _no_answer(url, error) from error
        if status != 200:
            raise _refusal(url, status, found, content)
        return found, content

    def close(self):
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
            found = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            if "content-encoding" in found:
                raise TeacherError(
                    f"The teacher at {url} answered in the encoding "
                    f"'{found['content-encoding']}', which was not asked for.",
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
        return response.status, found, bytes(content)


def tls_context(ca_file):
    """TLS that checks names and certificates.

    Args:
        ca_file: path of PEM certificates to trust, or `None` for the
            system's.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            "Expected `ca_file` to be a file of PEM certificates. Received: "
            f"'{ca_file}' ({type(error).__name__}: {error})."
        ) from None


def is_this_machine(host):
    """Whether a host is the machine that this runs on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        # TLS inside of TLS would pass by what `http_deadline` writes with.
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


def _no_answer(url, error):
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


def _refusal(url, status, headers, content):
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
    """`Retry-After` in seconds; its other form, a date, is not read."""
    return float(text) if text is not None and text.isdecimal() else None

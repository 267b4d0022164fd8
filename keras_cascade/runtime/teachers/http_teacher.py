"""Base class of teachers at an HTTP URL, and its client."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import os
import ssl
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import httpcore

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_connections import (
    AnswerTooLongError,
    HttpAnswer,
    HttpConnection,
    HttpConnections,
)
from keras_cascade.runtime.teachers.http_deadline import DeadlineBackend
from keras_cascade.runtime.teachers.json_answers import read_json
from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    MAX_BYTES,
    ROWS_HEADER,
    TIMEOUT_HEADER,
    RemoteTeacher,
    is_this_machine,
)
from keras_cascade.runtime.teachers.teacher_identity import Proof

CONNECTIONS = 64
#: Lists of numbers in a row of an answer whose sizes are free.
MOST_LISTS = 2**20
IDLE_SECONDS = 60.0
#: Sent with every request; `keras-cascade serve` states it in its answer.
REQUEST_ID = "x-request-id"
SHOWN = 300  # bytes of an error's answer that a message shows
READ = 64 * 1024  # bytes of it that are read, so that the connection is kept
#: Statuses of a server, or a proxy before it, that is busy or restarting.
RETRIED = (429, 502, 503, 504)
#: Statuses that are about the inputs of the request.
ABOUT_INPUT = (400, 413, 415, 422)


@dataclasses.dataclass(frozen=True, slots=True)
class HttpRequest:
    """Request about rows.

    Attributes:
        headers: dict.
        body: bytes.
        id: str, new for each request.
    """

    headers: dict[str, str]
    body: bytes
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """Content of an answer to rows, not validated yet.

    Attributes:
        output: array-like.
        id: str or `None`, of the request that it states to answer.
        teacher: str or `None`, the identity that it states.
        version: str or `None`, of the model that it states.
    """

    output: Any
    id: str | None = None
    teacher: str | None = None
    version: str | None = None


class HttpTeacher(RemoteTeacher):
    """A teacher at an `http://` or `https://` URL.

    An answer is taken for a request when it states the request's id, or when
    nothing else was ever asked on its connection. A connection to a server
    that states no ids serves one request; where such a server also had to
    prove its identity, the connection is kept, and after each answer the
    model's status on it must be what it was when it was proven: in between
    there is then no answer too many, and no other version of the model.

    Arguments as in `RemoteTeacher`.
    """

    def check(self) -> None:
        """Raises a `TeacherError` unless the model is ready to answer.

        With a `TeacherIdentity` the model must be the bundle's teacher.
        """
        with self._client.deadline(), self._client.connection() as connection:
            connection.keep = False  # unless it is proven below
            answer = self._client.send(connection, "GET", self._ready_url)
            self._client.require_ok(self._ready_url, answer)
            self._check_ready(answer)
            identity = self._identity
            if identity is None:
                return
            stated = answer.headers.get(IDENTITY_HEADER)
            if identity.matches(stated, self.url) or not identity.probes:
                return
            self._prove(connection)
            connection.keep = connection.proof.status is not None

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    @abc.abstractmethod
    def _infer_url(self):
        """Returns the URL that takes rows."""

    @abc.abstractmethod
    def _received(self, answer, request_id):
        """Reads the answer to rows; returns `Received`."""

    @property
    def _ready_url(self):
        return self.url

    def _check_ready(self, answer):
        """Raises where the status that a server answered is none."""

    def _prepare(self):
        #: Whether new connections answer the probe rows before any others.
        self._prove_first = False
        self._has_status = True
        self.url = _checked_url(self.url)
        parsed = urllib.parse.urlsplit(self.url)
        self._warn_of_open_token(parsed.hostname, parsed.scheme == "https")
        self._client = HttpClient(
            self.url,
            self.timeout,
            self._max_response_bytes or MAX_BYTES,
            self._token,
            self._ca_file,
            self._client_cert,
            self._client_key,
        )

    def _answered(self, request, rows):
        # Encoded already, so the whole deadline is for the exchange.
        with self._client.deadline(), self._reported(rows) as report:
            for new in (False, True):
                with self._client.connection(new) as connection:
                    if self._prove_first and not connection.exchanges:
                        self._prove(connection)
                    received = self._exchanged(
                        connection, request, rows, report
                    )
                    if self._accepted(connection, received, request.id):
                        return received.output
                    connection.keep = False
                    report.pop(ROWS_HEADER, None)  # answered, so counted
        raise TeacherError(
            f"The teacher at {self.url} answered a new connection with the "
            f"answer to another request. Expected: id '{request.id}'. "
            f"Received: '{received.id}'. Is a broken proxy before it?",
            retryable=True,
        )

    def _exchanged(self, connection, request, rows, report=None):
        """Sends one request on a connection; returns `Received`."""
        self._check_open(connection)
        url = self._infer_url()
        answer = self._client.send(
            connection,
            "POST",
            url,
            request.body,
            {**request.headers, REQUEST_ID: request.id, **(report or {})},
            self._answer_limit(rows),
        )
        if answer.status != 200:
            raise self._failure(connection, answer, url, request.id)
        return self._received(answer, request.id)

    def _accepted(self, connection, received, request_id):
        """Checks whose answer it is, and to which request.

        Returns:
            `False` where it may be the answer to another request.

        Raises:
            TeacherError: it is another teacher's.
        """
        if received.id not in (None, request_id):
            return False
        identity, proof = self._identity, connection.proof
        by_id = received.id is not None
        in_step = by_id or connection.exchanges == 1
        if (
            identity is None
            or identity.matches(received.teacher, self.url)
            or not identity.probes
        ):
            self._prove_first = False
            # Without an id the next answer on it could be one too many.
            connection.keep = connection.keep and by_id
            return in_step
        if proof is None or not proof.holds(received.version):
            if received.version is None:
                # The teacher could be exchanged between these two answers.
                self._prove_first = True
                return False
            if not in_step:
                return False
            same = self._prove(connection)
            return same and connection.proof.version == received.version
        if by_id or proof.status is not None:
            return by_id or self._same_status(connection)
        connection.keep = False  # a later answer could not be assigned
        return connection.exchanges == proof.exchanges + 1

    def _prove(self, connection):
        """Asks a connection about the probe rows; sets its `proof`.

        A server without a status may end the connection with its error, and
        is asked for none again.

        Returns:
            `False` where the connection had to be renewed.

        Raises:
            TeacherError: the answers are not the bundle's teacher's, or end
                the connection.
        """
        status = self._status(connection)
        renewed = status is None and connection.closed
        if renewed:
            self._has_status = False
            connection.renew()
        parts, versions = [], set()
        for request, rows in self._requests(self._identity.probe_inputs()):
            received = self._exchanged(connection, request, rows)
            if received.id not in (None, request.id):
                connection.keep = False
                raise TeacherError(
                    f"The teacher at {self.url} answered another request than "
                    "its probe rows.",
                    retryable=True,
                )
            parts.append(received.output)
            versions.add(received.version)
        try:
            self._identity.check_probes(parts, self.url)
        except TeacherError:
            connection.keep = False
            raise
        # Of several versions none is proven.
        version = versions.pop() if len(versions) == 1 else object()
        self._check_open(connection)
        if self._status(connection) != status:
            connection.keep = False
            raise TeacherError(
                f"The teacher at {self.url} was exchanged while its identity "
                "was checked.",
                retryable=True,
            )
        connection.proof = Proof(version, status, connection.exchanges)
        return not renewed

    def _same_status(self, connection):
        """Returns `True` where a connection is as it was when it was proven."""
        expected = connection.proof.status
        return (
            expected is not None
            and not connection.closed
            and self._status(connection) == expected
        )

    def _status(self, connection):
        """Returns the model's status as bytes, `None` where it has none."""
        if not self._has_status:
            return None
        self._check_open(connection)
        answer = self._client.send(connection, "GET", self.url)
        if answer.status != 200:
            return None
        try:
            self._received(answer, None)
        except TeacherError:
            return answer.content
        return None  # logits, and not a status: one answer too many

    def _check_open(self, connection):
        if connection.closed:
            raise TeacherError(
                f"The teacher at {self.url} ends its connection after each "
                "answer, so that its answers to the probe rows prove nothing "
                "about the next one. Let it keep connections open (HTTP/1.1, "
                "keep-alive), or pass teacher_identity='off' to trust it."
            )

    def _failure(self, connection, answer, url, request_id):
        """Returns the error for a status other than 200."""
        error = _status_error(
            url, answer.status, answer.headers, answer.content
        )
        identity = self._identity
        by_id = answer.headers.get(REQUEST_ID) == request_id
        proven = (
            connection.proof is not None
            and connection.reusable
            and self._same_status(connection)
        )
        in_step = by_id or connection.exchanges == 1
        connection.keep = by_id or proven
        if identity is None or identity.off:
            return error
        stated = answer.headers.get(IDENTITY_HEADER)
        if stated is not None:
            identity.matches(stated, self.url)
            error.identified = in_step
        elif proven:
            error.identified = error.about_input
        elif error.about_input:
            self._prove_first = identity.probes
        return error

    def _json(self, content):
        try:
            return read_json(content, *self._most_lists())
        except ValueError as error:
            raise TeacherError(
                f"The teacher at {self.url} did not answer in JSON, or in "
                f"JSON that is no answer about logits ({str(error)[:200]}).",
                invalid_answer=True,
            ) from error

    def _answer_limit(self, rows):
        """Returns the bytes that an answer to `rows` may have.

        A number has at most 25 characters (a float64 with its comma); the
        rest is for white space, names and a second output.
        """
        if self._max_response_bytes is not None:
            return self._max_response_bytes
        if None in self._sizes:
            return MAX_BYTES
        if len(self._sizes) > 1:  # `_rows_at_once` bounds the rows
            lists = 2 * math.prod(self._sizes[:-1])
            numbers = math.prod(self._sizes)
            return 64 * 1024 + rows * (1024 + 64 * (lists + numbers))
        return min(MAX_BYTES, 64 * 1024 + rows * (1024 + 64 * self._classes))

    def _most_lists(self):
        """Returns how many lists an answer may have, and how deep."""
        if len(self._sizes) == 1:
            return self._max_rows, 2
        free = None in self._sizes[:-1]
        lists = MOST_LISTS if free else 2 * math.prod(self._sizes[:-1])
        return self._max_rows * (1 + lists), 1 + len(self._sizes)


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
        client_cert: path or `None`, this client's certificate and its chain.
            Defaults to `None`.
        client_key: path or `None`, its private key. Defaults to `None`: in
            the certificate's file.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        max_response_bytes: int,
        token: str | None,
        ca_file: str | os.PathLike | None,
        client_cert: str | os.PathLike | None = None,
        client_key: str | os.PathLike | None = None,
    ):
        self._url = url
        self._timeout = timeout
        self._max_bytes = max_response_bytes
        self._headers = {"User-Agent": "keras-cascade", "Accept": "*/*"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._backend = DeadlineBackend()
        # Only its way to connect, by TLS or a proxy, is used: httpcore's pool
        # does not say which connection a request goes over.
        factory = httpcore.ConnectionPool(
            ssl_context=_tls_context(ca_file, client_cert, client_key)
            if url[:5] == "https"
            else None,
            proxy=_proxy(url),
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self._backend,
        )
        origin = httpcore.URL(url).origin
        self._connections = HttpConnections(
            lambda: factory.create_connection(origin), CONNECTIONS
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
        with self.deadline(url), self.connection() as connection:
            answer = self.send(connection, method, url, body, headers)
        self.require_ok(url, answer)
        return answer.headers, answer.content

    @contextlib.contextmanager
    def deadline(self, url: str | None = None) -> Iterator[None]:
        """Surrounds requests that share one timeout; translates errors.

        Args:
            url: str, for the errors. Defaults to `None`: the teacher's.

        Raises:
            TeacherError: no answer, or none in time.
        """
        url = url or self._url
        try:
            with self._backend.within(self._timeout):
                yield
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

    @contextlib.contextmanager
    def connection(self, new: bool = False) -> Iterator[HttpConnection]:
        """Surrounds the use of one connection, inside of `deadline`.

        Args:
            new: bool. Takes none that was used before. Defaults to `False`.
        """
        seconds = self._backend.remaining(httpcore.PoolTimeout)
        with self._connections.lease(seconds, new) as connection:
            yield connection

    def send(
        self,
        connection: HttpConnection,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> HttpAnswer:
        """Sends one request on a connection and reads its whole answer.

        Args:
            connection: of `connection()`.
            method: str.
            url: str.
            body: bytes or `None`.
            headers: dict of further headers. Defaults to `None`.
            max_bytes: int, longer answers are not read. Defaults to `None`:
                the client's limit.

        Returns:
            `HttpAnswer`, of any status.

        Raises:
            TeacherError: an encoding that was not requested, or too long.
        """
        limit = max_bytes or self._max_bytes
        seconds = self._backend.remaining(httpcore.WriteTimeout)
        try:
            answer = connection.exchange(
                method,
                url,
                {
                    **self._headers,
                    TIMEOUT_HEADER: f"{seconds:.3f}",
                    **(headers or {}),
                },
                body,
                limit,
                READ,
            )
        except AnswerTooLongError:
            raise TeacherError(
                f"The teacher at {url} answered with more than {limit} "
                "bytes. Pass a larger `max_response_bytes`, or smaller "
                "batches.",
                invalid_answer=True,
            ) from None
        encoding = answer.headers.get("content-encoding")
        if encoding is not None:
            raise TeacherError(
                f"The teacher at {url} answered in the encoding "
                f"'{encoding}', which was not asked for.",
                invalid_answer=True,
            )
        return answer

    @staticmethod
    def require_ok(url: str, answer: HttpAnswer) -> None:
        """Raises a `TeacherError` unless an answer has status 200."""
        if answer.status != 200:
            raise _status_error(
                url, answer.status, answer.headers, answer.content
            )

    def close(self) -> None:
        """Closes the connections."""
        self._connections.close()


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


def _tls_context(ca_file, client_cert, client_key):
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            "Expected `ca_file` to be a file of PEM certificates. Received: "
            f"'{ca_file}' ({type(error).__name__}: {error})."
        ) from None
    if client_cert is not None:
        try:
            # An encrypted key would be asked for at the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ValueError(
                "Expected `client_cert` and `client_key` to be the files of a "
                "PEM certificate and of its key, without a password. "
                f"Received: '{client_cert}' and '{client_key}' "
                f"({type(error).__name__}: {error})."
            ) from None
    return context


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
    if text is None or not (text.isascii() and text.isdecimal()):
        return None
    return float(text[:9])

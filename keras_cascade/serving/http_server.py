"""HTTP/1.1 server: Uvicorn with low latency, timeouts and limits."""

import asyncio
import collections
import contextlib
import json
import logging
import socket

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from keras_cascade.serving import connections as phases
from keras_cascade.serving.acceptor import Acceptor
from keras_cascade.serving.connections import ConnectionTable
from keras_cascade.serving.cors import error_headers
from keras_cascade.serving.server_log import log

QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux
MAX_HEAD_BYTES = 64 * 1024
#: Pipelined requests of one connection that wait for the one before them.
MAX_PIPELINED = 32
#: Not worth a line in the log.
USUAL = (f"{phases.IDLE} timeout", f"{phases.KEPT} timeout")
TICKS_PER_REPORT = 100  # ten seconds
#: Requests that make room for another one when there are too many: their
#: client has sent, or read, nothing for a second.
STALLED = ((phases.WRITE, 1.0), (phases.BODY, 1.0))


class HttpServer(uvicorn.Server):
    """Uvicorn server with an event for its start and no signal handlers.

    Args:
        config: `uvicorn.Config`.
        table: `ConnectionTable`.
        tls: optional `ssl.SSLContext`.
        body_seconds: float, timeout for a whole body.
        closed_metric: Prometheus counter with the label `reason`.
        origins: tuple of `checked_origins`.

    Attributes:
        listening: `asyncio.Event`.
        table: `ConnectionTable`.
    """

    def __init__(
        self, config, table, tls, body_seconds, closed_metric, origins
    ):
        super().__init__(config)
        self.listening = asyncio.Event()
        self.table = table
        self._body_seconds = body_seconds
        self._closed_metric = closed_metric
        self._reported = collections.Counter()
        self._tls = tls
        self._origins = origins

    @contextlib.contextmanager
    def capture_signals(self):
        """Leaves signals alone; Uvicorn's handler would end the process."""
        yield

    async def startup(self, sockets=None):
        """Starts to listen, then sets `listening`."""
        await self.lifespan.startup()
        self.servers = [
            Acceptor(
                listening,
                self._make_protocol,
                self.table,
                self._tls,
                self.config.backlog,
            )
            for listening in sockets
        ]
        self.started = True
        self.listening.set()

    async def on_tick(self, counter):
        """Closes connections whose phase has timed out, ten times a second."""
        for connection, phase in self.table.expired():
            self.table.count_closed(f"{phase} timeout")
            connection.expire(phase)
        if counter % TICKS_PER_REPORT == 0:
            self._report_closed()
        return await super().on_tick(counter)

    async def shutdown(self, sockets=None):
        """Drains."""
        await super().shutdown(sockets)
        self._report_closed()

    def use_tls(self, context):
        """Replaces the TLS context; open connections keep theirs."""
        self._tls = context
        for acceptor in self.servers:
            acceptor.tls = context

    def _report_closed(self):
        new = self.table.closed - self._reported
        self._reported += new
        for reason, number in new.items():
            self._closed_metric.labels(reason).inc(number)
        unusual = {key: new[key] for key in new if key not in USUAL}
        if unusual:
            log("warning", "connections_closed", reasons=unusual)

    def _make_protocol(self):
        return GuardedProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            self.table,
            self._body_seconds,
            self._origins,
        )


class AmbiguousHeadError(ValueError):
    """The head of a request that two servers could read differently."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 protocol that reports its phases and refuses ambiguity.

    Nagle's algorithm and delayed ACKs are off. Uvicorn writes a response's
    head and body apart: without `TCP_NODELAY` the body is held back until
    the client's kernel acknowledges the head. asyncio sets it on some sockets
    only. In the other direction, a client that writes head and body apart, on
    a socket with Nagle's algorithm, sends the body only when the head is
    acknowledged. The server's kernel delays that by 40 ms, to send it with
    the response, for which the server needs the body. `TCP_QUICKACK` is not
    permanent, so it is set again with each packet.

    httptools (llhttp) refuses what two servers in a row could read
    differently: `content-length` with `transfer-encoding`, or twice, bare
    line feeds, folded headers, malformed chunk sizes. What it leaves to the
    server is checked when a head is complete.

    Args:
        config: `uvicorn.Config`.
        server_state: Uvicorn's `ServerState`.
        app_state: dict.
        table: `ConnectionTable`.
        body_seconds: float, timeout for a whole body.
        origins: tuple of `checked_origins`, whose pages may read errors.
    """

    def __init__(
        self, config, server_state, app_state, table, body_seconds, origins
    ):
        super().__init__(config, server_state, app_state)
        self._body_seconds = body_seconds
        self._origins = origins
        self.connecting = None  # a task, until there is a transport
        self._table = table
        self._phase = phases.HEAD
        self._part = None  # HEAD or BODY while a request is being received
        self._part_bytes = 0
        self._body_deadline = None
        self._head_again = None
        self._broken = self._is_refused = self._is_known = False

    def connection_made(self, transport):
        """Sets `TCP_NODELAY` on the new connection."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc):
        """Takes the connection out of the table."""
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data):
        """Has the packet acknowledged at once, then reads it."""
        if QUICK_ACK is not None:
            with contextlib.suppress(OSError):  # closed by the client
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        if self._broken or self.transport.is_closing():
            return
        self._part_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if cause is not None and not isinstance(cause, AmbiguousHeadError):
                cause = "its address cannot be read"
            self._end(400, f"Received one that breaks it: {cause or error}.")
        else:
            self._bound()
        self._report()

    def on_message_begin(self):
        """Begins a head."""
        super().on_message_begin()
        self.scope["state"]["connection"] = self
        self._part, self._part_bytes = phases.HEAD, 0

    def on_headers_complete(self):
        """Checks the head, then begins the request."""
        self._check_head()
        if self.parser.should_upgrade():
            # An offer that a server may ignore (RFC 9110, 7.8). The parser
            # would leave the body to the other protocol.
            self._head_again = self._head_without_upgrade()
            return
        if self._table.requests >= self._table.max_requests:
            self._make_room()
        super().on_headers_complete()
        self._part = phases.BODY
        self._body_deadline = self.loop.time() + self._body_seconds

    def on_message_complete(self):
        """Ends the body."""
        if self._head_again is None:
            super().on_message_complete()
            self._part = None

    def on_response_complete(self):
        """Goes on with the next request."""
        super().on_response_complete()
        if self._broken:
            self.transport.close()
        self._report()

    def pause_writing(self):
        """Begins the phase of a client that does not read."""
        super().pause_writing()
        self._report()

    def resume_writing(self):
        """Ends the phase of a client that does not read."""
        super().resume_writing()
        self._report()

    def shutdown(self):
        """Ends the connection, now or after its response."""
        super().shutdown()
        self._report()

    def know(self):
        """Marks the client as one whose request the model answers."""
        self._is_known = True
        self._report()

    def refuse(self):
        """Marks the request in progress as refused; then it is closed."""
        self._is_refused = True
        self._report()

    def cut(self):
        """Ends the connection at once."""
        self._table.remove(self)
        if self.transport is None:
            self.connecting.cancel()
        else:
            self.transport.abort()

    def expire(self, phase):
        """Ends the connection after a timeout.

        Args:
            phase: str, the phase that lasted too long.
        """
        if self.transport is None or phase in (phases.WRITE, phases.CLOSING):
            self.cut()
        elif self._part is None:
            self.transport.close()
        else:
            self._end(408, f"The {phase} did not arrive in time. Was it sent?")
        self._report()

    def _feed(self, data):
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._head_again is None:
                return
            head, self._head_again = self._head_again, None
            self.parser = httptools.HttpRequestParser(self)
            self._feed(head + data[upgrade.args[0] :])

    def _bound(self):
        """Ends the connection of a client that sends too much, or too long."""
        if self._part is phases.HEAD and self._part_bytes > MAX_HEAD_BYTES:
            self._end(
                431, f"Received a head of more than {MAX_HEAD_BYTES} bytes."
            )
        elif len(self.pipeline) > MAX_PIPELINED:
            self._end(
                429, f"Received more than {MAX_PIPELINED} without waiting."
            )
        elif (
            self._part is phases.BODY and self.loop.time() > self._body_deadline
        ):
            self.expire(phases.BODY)

    def _check_head(self):
        """Raises for a head that two servers could read differently."""
        version, method = (
            self.parser.get_http_version(), self.parser.get_method()
        )  # fmt: skip
        names = [name for name, _ in self.headers]
        codings = [
            value.lower()
            for name, value in self.headers
            if name == b"transfer-encoding"
        ]
        why = None
        if version not in ("1.0", "1.1"):
            why = f"HTTP/{version}"
        elif method == b"CONNECT":
            why = "CONNECT, which is for proxies"
        elif names.count(b"host") != 1 and (
            version == "1.1" or b"host" in names
        ):
            why = f"{names.count(b'host')} headers 'host'"
        elif codings and (codings != [b"chunked"] or version == "1.0"):
            why = "a 'transfer-encoding' that is not just 'chunked'"
        if why is not None:
            raise AmbiguousHeadError(why)

    def _head_without_upgrade(self):
        lines = [
            b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url),
            *(
                b"%s: %s" % (name, value)
                for name, value in self.headers
                if name not in (b"upgrade", b"connection", b"http2-settings")
            ),
        ]
        return b"\r\n".join([*lines, b"", b""])

    def _make_room(self):
        """Ends a stalled request, or has this one answered with 503."""
        stalled = self._table.victim(STALLED)
        if stalled is not None and stalled is not self:
            self._table.count_closed("room for a request")
            stalled.cut()
            return
        self.scope["state"]["busy"] = True

    def _phase_now(self):
        if self.transport is None:
            return phases.HEAD
        if self.transport.is_closing():
            return phases.CLOSING
        if self.flow.write_paused:
            return phases.WRITE
        if self.pipeline:
            return phases.ANSWER
        if self.cycle is None:
            return phases.HEAD
        if not self.cycle.response_complete:
            if self._is_refused:
                return phases.REFUSED
            return phases.BODY if self._part is phases.BODY else phases.ANSWER
        if self._part is not None:
            return self._part
        return phases.KEPT if self._is_known else phases.IDLE

    def _report(self):
        phase = self._phase_now()
        if phase is not self._phase or phase is phases.BODY:
            self._phase = phase
            self._table.enter(self, phase)

    def _end(self, status, why):
        """Ends the connection with an error, after any response in progress.

        Args:
            status: int.
            why: str, one or two sentences.
        """
        self._broken = True
        running = self.cycle is not None and not self.cycle.response_complete
        if self.pipeline or (running and self._part is not phases.BODY):
            self.pipeline.clear()
            return  # `on_response_complete` closes
        if running and self.cycle.response_started:
            self.transport.close()
            return
        if running:  # its body will not come to an end
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = json.dumps(
            {"error": f"Expected a request of HTTP/1.1. {why}"}
        ).encode()
        head = [
            STATUS_LINE[status],
            *(
                b"%s: %s\r\n" % (name, value)
                for name, value in (
                    *self.server_state.default_headers,
                    *error_headers(self._origins, self._origin()),
                )
            ),
            b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body),
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()

    def _origin(self):
        """The request's header `origin`, as far as its head has arrived."""
        for name, value in self.headers or ():
            if name == b"origin":
                return value.decode("latin-1")
        return None


def http_server(app, service, budget, tls=None, origins=()):
    """Creates the server; `serve(sockets)` runs it.

    Args:
        app: ASGI application.
        service: `TeacherService`.
        budget: `ConnectionBudget`.
        tls: optional `ssl.SSLContext`.
        origins: tuple of `checked_origins`, those of `app`: what is written
            before it runs has the same headers. Defaults to `()`.

    Returns:
        `HttpServer`.
    """
    limits = service.limits
    # Uvicorn warns of each client that breaks off or sends no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    table = ConnectionTable(
        budget.http,
        limits.per_client(budget.http),
        budget.requests,
        {
            phases.HEAD: limits.head_seconds,
            phases.BODY: limits.silent_seconds,
            phases.WRITE: limits.silent_seconds,
            phases.REFUSED: limits.silent_seconds,
            phases.IDLE: limits.idle_seconds,
            phases.KEPT: limits.idle_seconds,
            phases.CLOSING: limits.silent_seconds,
        },
    )
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        # The table's timeout comes first.
        timeout_keep_alive=int(limits.idle_seconds) + 1,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.drain_seconds),
    )
    service.metrics.watch(table)
    return HttpServer(
        config,
        table,
        tls,
        limits.body_seconds,
        service.metrics.closed_connections,
        origins,
    )

"""Error of a request that the client has to correct or repeat."""

#: HTTP status, in the log, of a request whose client did not wait for it.
CLIENT_GONE = 499


class RequestError(Exception):
    """A request that cannot be answered; never the server's own failure.

    Args:
        status: int, the HTTP status. gRPC's own follows from it.
        message: str: what was expected, what was received, what to do. It
            goes to the client and never into the log, as it may quote the
            request.
        retry_after: int or `None`, seconds after which to try again.
            Defaults to `None`.
    """

    def __init__(self, status, message, retry_after=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self):
        """Dict of the response's HTTP headers."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def too_many_rows(rows, max_rows):
    """Returns the error of a request with more rows than one run takes.

    Args:
        rows: int, the request's.
        max_rows: int.

    Returns:
        `RequestError`.
    """
    return RequestError(
        413,
        f"Expected at most {max_rows} rows in one request. Received: {rows}. "
        "Send them in several.",
    )

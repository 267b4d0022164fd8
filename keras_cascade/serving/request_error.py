"""What a client is told when its request cannot be answered."""


class RequestError(Exception):
    """A request that is refused, and why: never the server's own failure.

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
        """Dict of the HTTP headers that belong to the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

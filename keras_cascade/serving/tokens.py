"""Who may use the server."""

import hashlib
import hmac
from pathlib import Path

from keras_cascade.serving.request_error import RequestError

SHORTEST = 16


class Tokens:
    """Bearer tokens that the server accepts.

    Args:
        tokens: list of str. Empty: everyone is accepted.
    """

    def __init__(self, tokens=()):
        self._digests = [_digest(token.encode()) for token in tokens]

    @classmethod
    def from_file(cls, path):
        """Reads one token a line, so that an old and a new one can overlap.

        Args:
            path: path of the file, or `None` for no tokens.

        Raises:
            ValueError: no token in the file, or one that is easily guessed.
            OSError: the file cannot be read.
        """
        if path is None:
            return cls()
        text = Path(path).read_text(encoding="utf-8")
        tokens = [line.strip() for line in text.splitlines() if line.strip()]
        if not tokens or min(map(len, tokens)) < SHORTEST:
            raise ValueError(
                f"Expected a token of at least {SHORTEST} characters in every "
                f"line of '{path}'. Make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'`."
            )
        return cls(tokens)

    def __bool__(self):
        return bool(self._digests)

    def check(self, authorization):
        """Refuses whoever has no token.

        Args:
            authorization: str or `None`, the request's header.

        Raises:
            RequestError: 401, with the same words whatever was wrong.
        """
        if not self._digests:
            return
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip().encode("utf-8", "surrogateescape"))
        # Every one is compared, each in constant time.
        known = [hmac.compare_digest(given, one) for one in self._digests]
        if scheme.lower() != "bearer" or not any(known):
            raise RequestError(
                401,
                "Expected the header 'authorization: Bearer TOKEN' with a "
                "token that this server knows. Received none.",
            )


def _digest(token):
    return hashlib.sha256(token).digest()

"""What the teachers that speak HTTP have in common."""

import json
import urllib.parse

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_client import (
    HttpClient,
    is_this_machine,
)
from keras_cascade.runtime.teachers.remote_teacher import RemoteTeacher


class HttpTeacher(RemoteTeacher):
    """A teacher at an `http://` or `https://` URL.

    Arguments as in `RemoteTeacher`.
    """

    def __init__(self, url, classes, *args, **kwargs):
        super().__init__(checked_url(url), classes, *args, **kwargs)
        parsed = urllib.parse.urlsplit(self.url)
        self._warn_of_open_token(
            parsed.scheme == "https", is_this_machine(parsed.hostname)
        )
        self._client = HttpClient(
            self.url,
            self.timeout,
            self._max_response_bytes,
            self._token,
            self._ca_file,
        )

    def close(self):
        """Closes the connections."""
        self._client.close()

    def _post(self, url, body, headers, rows):
        """Asks about `rows` rows; `(headers, body)` of the answer."""
        with self._told(rows) as seen:
            return self._client.request("POST", url, body, {**headers, **seen})

    def _json(self, content):
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TeacherError(
                f"The teacher at {self.url} did not answer in JSON.",
                invalid_answer=True,
            ) from error


def checked_url(url):
    """An HTTP URL without a slash at its end.

    Raises:
        ValueError: not an HTTP URL, or one with a user, query or fragment.
    """
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

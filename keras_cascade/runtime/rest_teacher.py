"""A teacher behind TensorFlow Serving's REST interface."""

import ipaddress

import httpx
import numpy as np

from keras_cascade.runtime.believed import believed_logits
from keras_cascade.runtime.teacher_error import TeacherError


class RestTeacher:
    """Asks a teacher over HTTP: `POST URL:predict` with `instances`.

    Works against TensorFlow Serving, KServe and `keras-cascade serve`.

    Args:
        url: str, such as `"http://127.0.0.1:8501/v1/models/teacher"`.
        classes: int, how many logits a row must have.
        output: str, the model's output name. Defaults to `"logits"`.
        timeout: float, seconds without any progress (connecting, sending,
            waiting for the next bytes). Defaults to `10.0`.
        max_rows: int, rows in one request; more are sent in several.
            Defaults to `256`.
    """

    def __init__(
        self, url, classes, output="logits", timeout=10.0, max_rows=256
    ):
        self.url = _checked_url(url)
        self._classes = classes
        self._output = output
        self._max_rows = max_rows
        # A proxy of the environment has no way back to this machine.
        self._client = httpx.Client(
            timeout=timeout, trust_env=not _is_this_machine(self.url)
        )

    def check(self):
        """Raises a `TeacherError` unless the model answers at its URL."""
        self._answer("GET", self.url)

    def logits(self, inputs):
        """Asks for the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: no answer, or one that cannot be believed.
        """
        rows = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, rows, self._max_rows):
            cut = slice(start, start + self._max_rows)
            parts.append(self._ask({k: v[cut] for k, v in inputs.items()}))
        return np.concatenate(parts)

    def close(self):
        """Closes the connections."""
        self._client.close()

    def _ask(self, inputs):
        columns = {name: array.tolist() for name, array in inputs.items()}
        if len(columns) == 1:
            instances = next(iter(columns.values()))
        else:
            instances = [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ]
        answer = self._answer(
            "POST", f"{self.url}:predict", json={"instances": instances}
        )
        return self._believed(answer, len(instances))

    def _answer(self, method, url, **kwargs):
        try:
            response = self._client.request(method, url, **kwargs)
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            raise TeacherError(
                f"The teacher does not answer at {url} "
                f"({type(error).__name__}: {error}). Is it running? Start it "
                "with `keras-cascade serve BUNDLE`."
            ) from error
        if response.status_code != 200:
            raise TeacherError(
                f"The teacher at {url} answered status "
                f"{response.status_code}: {response.text[:300]}"
            )
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise TeacherError(
                f"The teacher at {url} did not answer in JSON."
            ) from error

    def _believed(self, answer, rows):
        try:
            predictions = answer["predictions"]
            if isinstance(predictions[0], dict):
                predictions = [row[self._output] for row in predictions]
        except (IndexError, KeyError, TypeError) as error:
            raise TeacherError(
                f"The teacher's answer has no '{self._output}' in every row "
                "of 'predictions'."
            ) from error
        return believed_logits(predictions, rows, self._classes)


def _checked_url(url):
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"'{url}' is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(
            "Expected a URL such as "
            f"'http://127.0.0.1:8501/v1/models/teacher'. Received: '{url}'."
        )
    return url.rstrip("/")


def _is_this_machine(url):
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

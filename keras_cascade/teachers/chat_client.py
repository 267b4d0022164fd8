"""Requests to a chat-completions endpoint, several at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import email.utils
import os
import random
import threading
import time
from collections import abc
from typing import Any

import tenacity

from keras_cascade.errors import TeacherError
from keras_cascade.utils.optional_package import optional_package

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
#: Codes of errors with status 429 that waiting does not end.
QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
FILTERED = ("content_filter", "content_policy_violation")
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0
#: A server that asks for a longer pause is not waited for.
LONGEST_RETRY_AFTER = 120.0


class ChatClient:
    """Posts requests with bounded concurrency and bounded retries.

    A rate limit (429) pauses all requests for as long as `Retry-After` asks.
    Other failures that may pass (no connection, timeout, 5xx) are retried
    after exponential waits with full jitter.

    Args:
        url: str, the endpoint's base, such as `"https://host/v1"`.
        api_key_env: str, the environment variable with the key, read when
            requests are sent.
        max_concurrency: int >= 1.
        retries: int >= 0, attempts after the first.
        timeout: float, seconds for one request.

    Attributes:
        retried: int, attempts after the first.
        rate_limited: int, answers 429 among those that led to them.
    """

    def __init__(
        self,
        url: str,
        api_key_env: str,
        max_concurrency: int,
        retries: int,
        timeout: float,
    ) -> None:
        self.url = url.rstrip("/")
        self.retried = self.rate_limited = 0
        self._api_key_env = api_key_env
        self._max_concurrency = max_concurrency
        self._retries = retries
        self._timeout = timeout
        self._resume_at = 0.0
        self._has_worked = False
        self._sleep = asyncio.sleep

    def send(
        self,
        requests: dict[str, dict],
        receive: abc.Callable[[str, dict | None], None],
    ) -> None:
        """Sends requests, and hands over each answer as it comes.

        The first goes alone, so that a wrong setting costs one request. After
        an error no further request is sent; those under way are received.

        Args:
            requests: dict of key to body. The key is sent as
                `Idempotency-Key`.
            receive: function of a key and its answer, `None` where the
                endpoint's content filter declined the request.

        Raises:
            TeacherError: a request failed for good, or the quota ended.
        """
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1, "chat") as executor:
            # In a thread: notebooks run an event loop in this one.
            future = executor.submit(
                asyncio.run, self._send(requests, receive, stop)
            )
            try:
                future.result()
            except BaseException:
                stop.set()
                raise

    async def _send(self, requests, receive, stop):
        httpx = optional_package("httpx", extra="llm")
        key = os.environ.get(self._api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        errors: list[BaseException] = []
        waiting = iter(requests.items())
        async with httpx.AsyncClient(
            headers=headers,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=self._max_concurrency),
        ) as client:

            async def work(limit=None):
                for count, (name, body) in enumerate(waiting, start=1):
                    if stop.is_set() or errors:
                        return
                    try:
                        receive(name, await self._answer(client, name, body))
                    except Exception as error:
                        errors.append(error)
                        return
                    if count == limit:
                        return

            if not self._has_worked:
                await work(limit=1)
            self._has_worked = not errors
            await asyncio.gather(
                *(work() for _ in range(self._max_concurrency))
            )
        if errors:
            raise errors[0]

    async def _answer(self, client, name, body):
        async for attempt in tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(1 + self._retries),
            wait=_wait,
            retry=tenacity.retry_if_exception(
                lambda error: getattr(error, "retryable", False)
            ),
            sleep=self._sleep,
            reraise=True,
        ):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    self.retried += 1
                pause = self._resume_at - time.monotonic()
                if pause > 0:
                    await self._sleep(pause)
                return await self._post(client, name, body)

    async def _post(self, client, name, body):
        httpx = optional_package("httpx", extra="llm")
        try:
            response = await client.post(
                f"{self.url}/chat/completions",
                json=body,
                headers={"Idempotency-Key": name},
            )
        except httpx.TransportError as error:
            raise TeacherError(
                f"No answer from {self.url}: {type(error).__name__}"
                f"{f' ({error})' if str(error) else ''}. Is it running?",
                retryable=True,
            ) from error
        if response.status_code == 200:
            try:
                return response.json()
            except ValueError as error:
                raise TeacherError(
                    f"Expected JSON from {self.url}. Received: "
                    f"{response.text[:100]!r}.",
                    invalid_answer=True,
                ) from error
        return self._failed(response)

    def _failed(self, response):
        """Raises the error of an answer, `None` for a filtered request."""
        status, (code, message) = response.status_code, _error_of(response)
        if status == 400 and code in FILTERED:
            return None
        if status == 402 or code in QUOTA:
            raise QuotaError(
                f"The quota at {self.url} ended ({status}: {message}).",
                refused=True,
            )
        retry_after = _seconds(response.headers.get("retry-after"))
        if status == 429:
            self.rate_limited += 1
            if retry_after is not None:
                self._resume_at = max(
                    self._resume_at, time.monotonic() + retry_after
                )
        too_long = retry_after is not None and retry_after > LONGEST_RETRY_AFTER
        advice = {
            401: f" Put a valid key into {self._api_key_env}.",
            403: f" Put a key that may use it into {self._api_key_env}.",
            404: " Are the URL and the model's name right?",
        }.get(status, "")
        if too_long:
            advice = f" It asks for a pause of {retry_after:.0f} s."
        raise TeacherError(
            f"{self.url} answered {status}: {message}.{advice}",
            retryable=status in RETRIED and not too_long,
            retry_after=retry_after,
            refused=status not in RETRIED,
        )


class QuotaError(TeacherError):
    """The endpoint's quota ended; what was paid for is kept."""


def _wait(state):
    error = state.outcome.exception()
    if error.retry_after is not None:
        return error.retry_after
    longest = FIRST_WAIT * 2 ** (state.attempt_number - 1)
    return random.uniform(0, min(longest, LONGEST_WAIT))


def _error_of(response) -> tuple[str | None, str]:
    """`(code, message)` of an error's body."""
    try:
        error: Any = response.json().get("error")
        if isinstance(error, dict):
            code = error.get("code") or error.get("type")
            return code, str(error.get("message") or code)[:200]
        return None, str(error)[:200]
    except (ValueError, AttributeError):
        return None, response.text[:100] or "no message"


def _seconds(value):
    """Seconds of a `Retry-After` header: a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())

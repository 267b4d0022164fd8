"""A large language model behind a chat-completions endpoint as a teacher."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_cascade.evaluation.costs import Costs
from keras_cascade.teachers.answer_journal import FILE, AnswerJournal
from keras_cascade.teachers.chat_client import ChatClient, QuotaError
from keras_cascade.teachers.chat_scores import (
    ANSWERED,
    DECLINED,
    IDENTIFIERS,
    OUTSIDE,
    logprob_logits,
    vote_logits,
)
from keras_cascade.teachers.teacher import Teacher
from keras_cascade.text.text_columns import as_strings

PROMPT = (
    "Which class does the text belong to? Answer with the {form} of the class "
    "and nothing else.\n\nClasses:\n{classes}\n\nText: {text}\n\nClass:"
)
SCORINGS = ("logprobs", "votes")
FIELD = re.compile(r"\{(\w+)\}")
MILLION = 1e6


@dataclasses.dataclass
class Usage:
    """Counts of an `OpenAICompatible` teacher, of earlier runs too.

    Attributes:
        answered: int, texts with an answer among the classes.
        declined: int, texts that the model or a content filter declined.
        outside: int, texts with an answer outside of the classes.
        prompt_tokens: int, as the endpoint counted them.
        completion_tokens: int, as the endpoint counted them.
    """

    answered: int = 0
    declined: int = 0
    outside: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def texts(self) -> int:
        """Number of texts that were paid for."""
        return self.answered + self.declined + self.outside


class OpenAICompatible(Teacher):
    """LLM behind an endpoint that speaks the chat-completions protocol.

    The prompt gives each class one character (A to Z, b to z, 0 to 9, without
    "I" and "a", which begin sentences) and asks for it alone. With
    `scoring="logprobs"` the log-probabilities of these characters as the
    answer's first token are the logits: so a class name of several tokens
    costs no more than another. With `scoring="votes"`
    (any number of classes) the logits are smoothed log-frequencies of
    `samples` sampled answers, log((v + 0.5) / (n + 0.5 L)).

    A text that the model declines, or answers with anything but a class, is
    never guessed: its row is missing (NaN) and counted in `usage`. The
    student then learns from the label of such an example, `judge` and
    `calibrate` count the teacher as wrong on it, and a delegated one keeps
    the student's answer.

    Each answer is on disk before it counts: in `answers`, or with
    `cache_teacher_logits(dataset, teacher, path)` in the cache's folder. A
    killed run goes on there. What a kill interrupts between the endpoint's
    answer and the disk, at most `max_concurrency` texts, is sent again with
    the same `Idempotency-Key`.

    The key is read from an environment variable and is not in the config,
    the cache, a saved cascade or a bundle.

    Args:
        url: str, the endpoint's base, such as `"https://host/v1"`.
        model: str.
        classes: list of str, in label order.
        prompt: str with `{classes}` and `{text}`, or the names of the
            columns where the inputs are a dict. Defaults to `None`: a plain
            one.
        system: str, the system message. Defaults to `None`: none.
        scoring: `"logprobs"` or `"votes"`. Defaults to `"logprobs"`.
        samples: int, with `"votes"`. Defaults to `5`.
        max_concurrency: int, requests at a time. Defaults to `8`.
        retries: int, attempts after the first. Defaults to `8`.
        timeout: float, seconds for one request. Defaults to `60.0`.
        answers: path of a file for paid answers. Defaults to `None`: none,
            but for the one in a cache's folder.
        input_price: float, USD per million prompt tokens. Defaults to `None`.
        output_price: float, USD per million completion tokens. Defaults to
            `None`.
        api_key_env: str, the environment variable of the key. Defaults to
            `"OPENAI_API_KEY"`.
        options: dict that is added to each request's body, such as
            `{"seed": 0}`. Defaults to `None`.

    Attributes:
        usage: `Usage`.

    Raises:
        ValueError: fewer than two classes, classes that are not different, or
            more than 60 with `"logprobs"`; a prompt without its fields.

    Example:

    ```python
    teacher = kc.teachers.OpenAICompatible(
        "https://api.example.com/v1", "large-model", ["sport", "politics"]
    )
    cache = kc.cache_teacher_logits((texts, labels), teacher, "llm_logits")
    cascade.fit(texts, labels, teacher_logits=cache)
    ```
    """

    def __init__(
        self,
        url: str,
        model: str,
        classes: Sequence[str],
        prompt: str | None = None,
        system: str | None = None,
        scoring: str = "logprobs",
        samples: int = 5,
        max_concurrency: int = 8,
        retries: int = 8,
        timeout: float = 60.0,
        answers: str | os.PathLike | None = None,
        input_price: float | None = None,
        output_price: float | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__("logits")
        names = _checked(classes, scoring, samples, max_concurrency)
        if prompt is None:
            short = len(names) <= len(IDENTIFIERS)
            prompt = PROMPT.replace("{form}", "character" if short else "name")
        elif "{classes}" not in prompt:
            raise ValueError(
                "Expected a prompt with {classes}, where the classes are "
                f"listed. Received: {prompt[:80]!r}."
            )
        self.url = url
        self.model = model
        self.class_names = names
        self.prompt = prompt
        self.system = system
        self.scoring = scoring
        self.samples = samples
        self.max_concurrency = max_concurrency
        self.retries = retries
        self.timeout = timeout
        self.input_price = input_price
        self.output_price = output_price
        self.api_key_env = api_key_env
        self.options = options or {}
        self.usage = Usage()
        self._client = ChatClient(
            url, api_key_env, max_concurrency, retries, timeout
        )
        self._known: dict[str, list[float] | None] = {}
        self._journal: AnswerJournal | None = None
        self._lock = threading.Lock()
        if answers is not None:
            self._open(answers)

    @property
    def retried(self) -> int:
        """Number of requests that were sent again in this process."""
        return self._client.retried

    @property
    def rate_limited(self) -> int:
        """Number of answers 429 in this process."""
        return self._client.rate_limited

    def answers(self, inputs: Any) -> np.ndarray:
        prompts = [self._filled(row) for row in _rows(inputs)]
        keys = [self._key(one) for one in prompts]
        with self._lock:
            requests = {
                key: self._body(prompt)
                for key, prompt in zip(keys, prompts, strict=True)
                if key not in self._known
            }
            if requests:
                self._ask(requests)
        nothing = [np.nan] * len(self.class_names or ())
        return np.array(
            [self._known[key] or nothing for key in keys], "float32"
        )

    def describe(self) -> str:
        return f"the model '{self.model}' at {self.url}"

    def costs(self, student: float = 0.0) -> Costs:
        """Costs in USD, of the tokens that were counted so far.

        Args:
            student: float, USD per example on the device. Defaults to `0.0`.

        Returns:
            `Costs` with the unit `"USD"`, per example.

        Raises:
            ValueError: no prices were given, or nothing was asked yet.
        """
        if self.input_price is None or self.output_price is None:
            raise ValueError(
                "Expected `input_price` and `output_price`, in USD per million "
                "tokens. Received none."
            )
        if not self.usage.texts:
            raise ValueError(
                "Expected a teacher that was asked before: its tokens are "
                "counted. Run `cache_teacher_logits` first."
            )
        return Costs(
            student=student,
            teacher=self.cost / self.usage.texts,
            unit="USD",
            how_measured=(
                f"{self.usage.prompt_tokens:,} prompt and "
                f"{self.usage.completion_tokens:,} completion tokens of "
                f"{self.usage.texts:,} texts, at {self.input_price} and "
                f"{self.output_price} USD per million"
            ),
        )

    @property
    def cost(self) -> float:
        """USD that was paid so far; 0 without prices."""
        return (
            self.usage.prompt_tokens * (self.input_price or 0.0)
            + self.usage.completion_tokens * (self.output_price or 0.0)
        ) / MILLION

    def identity(self) -> str:
        content = [
            self.model, self.class_names, self.prompt, self.system,
            self.scoring, self.samples if self.scoring == "votes" else 1,
            self.options,
        ]  # fmt: skip
        return hashlib.sha256(
            json.dumps([self.url, *content], sort_keys=True).encode()
        ).hexdigest()

    def get_config(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "model": self.model,
            "classes": self.class_names,
            "prompt": self.prompt,
            "system": self.system,
            "scoring": self.scoring,
            "samples": self.samples,
            "max_concurrency": self.max_concurrency,
            "retries": self.retries,
            "timeout": self.timeout,
            "input_price": self.input_price,
            "output_price": self.output_price,
            "api_key_env": self.api_key_env,
            "options": self.options,
        }

    @classmethod
    def restored(cls, config: dict[str, Any]) -> Teacher:
        return cls(**config)

    def elsewhere(self) -> dict[str, Any]:
        return {
            "kind": "OpenAICompatible",
            "url": self.url,
            "model": self.model,
        }

    def keep_answers_in(self, folder: str | os.PathLike) -> None:
        if self._journal is None:
            self._open(Path(folder, FILE))

    def _open(self, path):
        journal = AnswerJournal(path)
        for answer in journal:
            if answer["teacher"] == self._short_identity():
                self._count(answer)
        self._journal = journal

    def _ask(self, requests):
        before = self.usage.texts
        try:
            self._client.send(requests, self._receive)
        except QuotaError as error:
            kept = self.usage.texts - before
            where = (
                f"kept in '{self._journal.path}'"
                if self._journal
                else "kept as long as this teacher"
            )
            raise QuotaError(
                f"{error} {kept} of {len(requests)} texts were answered and "
                f"are {where}. Raise the quota and call again: only the "
                "others are asked.",
                refused=True,
            ) from error

    def _receive(self, key, response):
        if response is None:
            status, logits = DECLINED, None
        elif self.scoring == "logprobs":
            status, logits = logprob_logits(
                response, len(self.class_names or ()), self.url
            )
        else:
            status, logits = vote_logits(
                response, self.class_names or [], self.samples, self.url
            )
        usage = (response or {}).get("usage") or {}
        answer = {
            "teacher": self._short_identity(),
            "key": key,
            "status": status,
            "logits": logits,
            "prompt_tokens": int(usage.get("prompt_tokens") or 0),
            "completion_tokens": int(usage.get("completion_tokens") or 0),
        }
        if self._journal is not None:
            self._journal.append(answer)
        self._count(answer)

    def _count(self, answer):
        if answer["key"] in self._known:
            return
        self._known[answer["key"]] = answer["logits"]
        for status in (ANSWERED, DECLINED, OUTSIDE):
            if answer["status"] == status:
                setattr(self.usage, status, getattr(self.usage, status) + 1)
        self.usage.prompt_tokens += answer["prompt_tokens"]
        self.usage.completion_tokens += answer["completion_tokens"]

    def _short_identity(self):
        return self.identity()[:16]

    def _key(self, prompt):
        return hashlib.sha256(
            f"{self.identity()}\0{prompt}".encode()
        ).hexdigest()

    def _filled(self, row):
        """Prompt of one row; what a text contains is not filled in again."""
        options = "\n".join(
            f"{IDENTIFIERS[number]}: {name}"
            if len(self.class_names) <= len(IDENTIFIERS)
            else name
            for number, name in enumerate(self.class_names)
        )
        values = {**row, "classes": options}
        missing = set(row) - set(FIELD.findall(self.prompt))
        if missing:
            raise ValueError(
                f"Expected a prompt with {sorted(missing)} in braces, as the "
                f"inputs are named. Received: {self.prompt[:80]!r}."
            )
        return FIELD.sub(
            lambda match: values.get(match[1], match[0]), self.prompt
        )

    def _body(self, prompt):
        messages = [{"role": "user", "content": prompt}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if self.scoring == "logprobs":
            body |= {
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": 20,
            }
        else:
            body |= {"max_tokens": 16, "temperature": 1, "n": self.samples}
        return {**body, **self.options}


def _rows(inputs):
    """List of dicts of field to text."""
    if not isinstance(inputs, dict):
        return [{"text": text} for text in as_strings(inputs)]
    columns = {name: as_strings(column) for name, column in inputs.items()}
    return [
        dict(zip(columns, texts, strict=True))
        for texts in zip(*columns.values(), strict=True)
    ]


def _checked(classes, scoring, samples, max_concurrency):
    names = [str(name) for name in classes]
    if len(names) < 2 or len({name.casefold() for name in names}) < len(names):
        raise ValueError(
            "Expected at least two `classes` with different names. Received: "
            f"{names[:8]}."
        )
    if scoring not in SCORINGS:
        raise ValueError(
            f"Expected `scoring` out of {list(SCORINGS)}. Received: "
            f"{scoring!r}."
        )
    if scoring == "logprobs" and len(names) > len(IDENTIFIERS):
        raise ValueError(
            f"Expected at most {len(IDENTIFIERS)} classes with "
            "scoring='logprobs', one character each. Received: "
            f"{len(names)}. Pass scoring='votes'."
        )
    if samples < 1 or max_concurrency < 1:
        raise ValueError(
            "Expected `samples >= 1` and `max_concurrency >= 1`. Received: "
            f"{samples} and {max_concurrency}."
        )
    return names

"""Logits from the answers of a chat-completions endpoint."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from keras_cascade.errors import TeacherError

#: One character per class, each one token for common tokenizers; without "I"
#: and "a", which begin sentences such as "I cannot ...".
IDENTIFIERS = "".join(
    one
    for one in string.ascii_uppercase + string.ascii_lowercase + string.digits
    if one not in "Ia"
)
#: States of an answer.
ANSWERED, DECLINED, OUTSIDE = "answered", "declined", "outside"
#: Added to each class's votes: Jeffreys' prior.
SMOOTHING = 0.5
#: Less probability on the classes than this is an answer outside of them.
LEAST_MASS = 0.5
#: Stripped from a token or an answer before it is compared.
AROUND = string.whitespace + "()[]{}.,:;*\"'`"


def logprob_logits(
    response: dict[str, Any], classes: int, url: str
) -> tuple[str, list[float] | None]:
    """Log-probabilities of the classes' identifiers, of one answer.

    The probabilities of tokens that are the same identifier ("A", " A") are
    added. Classes that are not among the listed tokens share what is left of
    the probability, each at most as much as the least listed token.

    Args:
        response: dict, the endpoint's answer to a request with `logprobs`.
        classes: int.
        url: str, for errors.

    Returns:
        `(state, logits)`; the logits are `None` unless it is `"answered"`.

    Raises:
        TeacherError: the endpoint returned no log-probabilities.
    """
    (choice,) = _choices(response, 1, url)
    if _declined(choice):
        return DECLINED, None
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        raise TeacherError(
            f"Expected log-probabilities (`logprobs`, `top_logprobs`) from "
            f"{url}. Received an answer without. Pass scoring='votes', which "
            "needs none, or use a model that returns them.",
            invalid_answer=True,
        )
    listed = content[0]["top_logprobs"]
    mass = np.zeros(classes)
    for one in listed:
        number = identifier_number(one["token"], classes)
        if number is not None:
            mass[number] += np.exp(one["logprob"])
    if mass.sum() < LEAST_MASS:
        return OUTSIDE, None
    unlisted = mass == 0
    if unlisted.any():
        probabilities = np.exp([one["logprob"] for one in listed])
        rest = max(1.0 - probabilities.sum(), 0.0) / unlisted.sum()
        mass[unlisted] = np.clip(rest, 1e-9, max(probabilities.min(), 1e-9))
    return ANSWERED, np.log(mass).tolist()


def vote_logits(
    response: dict[str, Any], classes: list[str], samples: int, url: str
) -> tuple[str, list[float] | None]:
    """Smoothed log-frequencies of the classes among sampled answers.

    The logit of a class with v of n votes is log((v + 0.5) / (n + 0.5 L)).

    Args:
        response: dict, the endpoint's answer to a request for `samples`.
        classes: list of str.
        samples: int, how many were asked for.
        url: str, for errors.

    Returns:
        As `logprob_logits`. Where no class has a vote, or fewer than half of
        the samples are votes, the answer is outside, or declined where that
        is what most of the others are.
    """
    votes, declined, outside = np.zeros(len(classes)), 0, 0
    for choice in _choices(response, samples, url):
        if _declined(choice):
            declined += 1
            continue
        number = class_number(choice["message"].get("content") or "", classes)
        if number is None:
            outside += 1
        else:
            votes[number] += 1
    if votes.sum() < 1 or votes.sum() < samples / 2:
        return (DECLINED if declined > outside else OUTSIDE), None
    share = (votes + SMOOTHING) / (votes.sum() + SMOOTHING * len(classes))
    return ANSWERED, np.log(share).tolist()


def identifier_number(text: str, classes: int) -> int | None:
    """Returns the class of an identifier, or `None`.

    Example:

    >>> from keras_cascade.teachers.chat_scores import identifier_number
    >>> identifier_number(" B", 3), identifier_number("Sorry", 3)
    (1, None)
    """
    text = text.strip(AROUND)
    number = IDENTIFIERS.find(text) if len(text) == 1 else -1
    return number if 0 <= number < classes else None


def class_number(text: str, classes: list[str]) -> int | None:
    """Returns the class that an answer names, by identifier or name."""
    text = text.strip(AROUND)
    if len(classes) <= len(IDENTIFIERS):
        number = identifier_number(text, len(classes))
        if number is not None:
            return number
    names = [name.casefold() for name in classes]
    lowered = text.casefold()
    return names.index(lowered) if lowered in names else None


def _choices(response, expected, url):
    choices = response.get("choices") if isinstance(response, dict) else None
    valid = isinstance(choices, list) and all(
        isinstance(one, dict) and isinstance(one.get("message"), dict)
        for one in choices
    )
    if not valid or len(choices) != expected:
        received = len(choices) if valid else "something else"
        raise TeacherError(
            f"Expected {expected} choices with a message from {url}. "
            f"Received: {received}. Does it speak the chat-completions "
            "protocol, and `n`? Pass samples=1 where it does not.",
            invalid_answer=True,
        )
    return choices


def _declined(choice):
    filtered = choice.get("finish_reason") == "content_filter"
    return filtered or bool(choice["message"].get("refusal"))

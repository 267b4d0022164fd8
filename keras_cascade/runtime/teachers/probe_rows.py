"""Probe rows: inputs that tell a bundle's teacher from any other.

A server that does not state the identity of its model is asked about them,
and its logits are compared with those in the manifest. The rows follow from a
text, by SHAKE-256, and from the manifest's inputs, so the manifest holds no
one's data and every later version makes the same rows.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from keras_cascade.runtime.inputs import TEXT

#: Rows of text inputs. A later version may append to them.
SENTENCES = (
    "The train to the coast leaves at nine in the morning.",
    "I would like to cancel my order and get the money back.",
    "What is the weather going to be like tomorrow?",
    "She opened the window because the room was too warm.",
    "The second half of the film was a great disappointment.",
    "Please send me the invoice for last month again.",
    "Two dogs are running across a green field.",
    "My card was charged twice for the same purchase.",
    "The committee will vote on the new budget on Friday.",
    "This is the best coffee that I have had in years.",
    "How do I change the password of my account?",
    "A man in a red jacket is playing the guitar.",
    "The bridge was closed after the storm damaged it.",
    "There is no hot water in our room since yesterday.",
    "Nobody expected the small team to win the cup.",
    "Can you recommend a good book about the history of science?",
)


def probe_shapes(specs: list[dict], examples: dict | None = None) -> dict:
    """Shapes of one probe row per input.

    Args:
        specs: list of inputs, as in the manifest.
        examples: dict of input name to array, whose sizes replace the free
            ones. Defaults to `None`: free sizes become 1.

    Returns:
        Dict of input name to list of int.
    """
    shapes = {}
    for spec in specs:
        sizes = spec["shape"][1:]
        given = [1] * len(sizes)
        if examples is not None:
            given = np.shape(examples[spec["name"]])[1:]
        shapes[spec["name"]] = [
            int(own if size is None else size)
            for size, own in zip(sizes, given, strict=True)
        ]
    return shapes


def probe_inputs(
    specs: list[dict], seed: str, rows: int, shapes: dict
) -> dict[str, np.ndarray]:
    """Creates the probe rows.

    Numbers lie in the manifest's range. Row 0 is noise; the following rows
    have a coarser grain, another mean and another contrast, since a model
    answers noise of one kind much alike.

    Args:
        specs: list of inputs, as in the manifest.
        seed: str.
        rows: int.
        shapes: dict, as `probe_shapes` returns it.

    Returns:
        Dict of input name to array, batch first.
    """
    inputs = {}
    for spec in specs:
        name, shape = spec["name"], tuple(shapes[spec["name"]])
        make = _texts if spec["dtype"] == TEXT else _numbers
        keys = [f"{seed}/{name}/{row}" for row in range(rows)]
        inputs[name] = np.stack(
            [make(key, row, shape, spec) for row, key in enumerate(keys)]
        )
    return inputs


def _numbers(key, row, shape, spec):
    low, high = spec["range"] or (0.0, 1.0)
    mean, contrast = 0.5, 1.0
    grain = 2 ** (row % 4)
    if row:
        mean, contrast = (float(one) for one in _uniform(f"{key}/tone", 2))
        contrast = 0.25 + 0.75 * contrast
    coarse = tuple(math.ceil(size / grain) for size in shape)
    values = _uniform(key, math.prod(coarse)).reshape(coarse)
    for axis, size in enumerate(shape):
        values = np.repeat(values, grain, axis=axis)
        values = values.take(range(size), axis=axis)
    # Around the row's mean, and inside [0, 1].
    centre = mean * (1.0 - contrast) + 0.5 * contrast
    values = low + (high - low) * (centre + contrast * (values - 0.5))
    dtype = np.dtype(spec["dtype"])
    if dtype.kind == "b":
        return values * 2 >= low + high
    if dtype.kind in "iu":
        values = np.rint(values)
    return values.clip(low, high).astype(dtype)


def _texts(key, row, shape, spec):
    del spec
    count = math.prod(shape)
    offset = int.from_bytes(_digest(key.rpartition("/")[0], 4), "little")
    texts = np.empty(count, object)
    texts[:] = [
        SENTENCES[(offset + row * count + number) % len(SENTENCES)]
        for number in range(count)
    ]
    return texts.reshape(shape)


def _uniform(key, count):
    """Returns float64 in [0, 1), multiples of 2**-24."""
    raw = np.frombuffer(_digest(key, 4 * count), "<u4")
    return (raw >> 8) * 2.0**-24


def _digest(key, size):
    return hashlib.shake_256(key.encode("utf-8")).digest(size)

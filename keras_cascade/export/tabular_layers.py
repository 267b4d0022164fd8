"""Lookups and encodings of tabular data in a student's file.

LiteRT looks strings up in a table of its own. It has no table of integers
and does not count (`DenseBincount`): both are computed otherwise there, with
the same results. It hashes nothing.
"""

import contextlib
import functools

import keras
import numpy as np
from keras import layers, ops

from keras_cascade.errors import ExportError
from keras_cascade.utils.attributes import attribute_set

LOOKUPS = (layers.IntegerLookup, layers.StringLookup)
HASHES = (layers.Hashing, layers.HashedCrossing)
_COUNTED = ("count", "multi_hot")


def check_tabular_layers(model, trains=None):
    """Raises for layers of tabular data that no student's file can hold.

    Args:
        model: `keras.Model`, the student.
        trains: str, a quantization that trains the student on, which takes
            none of them. Defaults to `None`.

    Raises:
        ExportError: names each of them, with what to use instead.
    """
    problems = []
    for layer in model._flatten_layers():
        problem = _problem(layer, trains)
        if problem is not None:
            kind = type(layer).__name__
            problems.append(f"'{layer.name}' ({kind}): {problem}")
    if problems:
        raise ExportError(
            "The student prepares its inputs with layers that its file cannot "
            f"hold. {' '.join(dict.fromkeys(problems))} Or prepare the data "
            "before the student, and give the cascade the prepared values."
        )


@contextlib.contextmanager
def with_built_in_operations(model):
    """Has layers of tabular data compute with what LiteRT has.

    Inside of the `with` block, on every call of the model.

    Args:
        model: `keras.Model` that passed `check_tabular_layers`.
    """
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            call = _built_in_call(layer)
            if call is not None:
                stack.enter_context(attribute_set(layer, "call", call))
            if isinstance(layer, layers.IntegerLookup):
                # A table that is saved is converted, used or not.
                stack.enter_context(_without_attribute(layer, "lookup_table"))
        yield


@contextlib.contextmanager
def _without_attribute(layer, name):
    value = getattr(layer, name)
    delattr(layer, name)
    try:
        yield
    finally:
        setattr(layer, name, value)


def _problem(layer, trains):
    """Reason that a layer cannot be in the file, and advice; or `None`."""
    if isinstance(layer, (*HASHES, *LOOKUPS)) and trains is not None:
        return (
            f"quantization='{trains}' takes numbers alone. Use 'dynamic' or "
            "'float16'."
        )
    if isinstance(layer, layers.HashedCrossing):
        return (
            "LiteRT does not hash. Leave the cross out (of a `FeatureSpace`, "
            "`crosses`), or join both values before, and look the joined "
            "value up with a vocabulary."
        )
    if isinstance(layer, layers.Hashing):
        return (
            "LiteRT does not hash. Use `StringLookup` or `IntegerLookup` with "
            "a vocabulary (of a `FeatureSpace`, `string_categorical` or "
            "`integer_categorical`)."
        )
    if isinstance(layer, layers.TextVectorization):
        return (
            "LiteRT does not split texts. Make the student a "
            "`keras_cascade.text.TextModel(model, vectorization)`, whose "
            "tokenizer is a file of its own."
        )
    if isinstance(layer, LOOKUPS):
        return _problem_of_lookup(layer)
    return None


def _problem_of_lookup(layer):
    if layer.invert:
        return "it gives values for indices. Use indices as classes."
    if layer.num_oov_indices != 1:
        return (
            "expected `num_oov_indices=1`, one index for all values that are "
            f"not in the vocabulary. Received: {layer.num_oov_indices}. With "
            "none, Keras fails on such a value, which a device cannot; with "
            "several, it hashes."
        )
    if layer.output_mode == "tf_idf" or layer.sparse:
        return "use `output_mode='int'` or 'one_hot', not sparse."
    if layer.output_mode in _COUNTED and isinstance(layer, layers.StringLookup):
        return (
            f"use `output_mode='int'`, and behind it a `CategoryEncoding` with "
            f"'{layer.output_mode}'."
        )
    return None


def _built_in_call(layer):
    """Function that computes what a layer's `call` does; `None`: its own."""
    if isinstance(layer, layers.IntegerLookup):
        # Now, as the table cannot be read inside of a graph.
        unknown, entries = _entries(layer)
        depth = layer.vocabulary_size()
        return lambda inputs: _encoded(
            _indices(inputs, unknown, entries), layer.output_mode, depth
        )
    if isinstance(layer, layers.StringLookup):
        # As above.
        depth = len(layer.get_vocabulary())
        return functools.partial(_looked_up, layer, layer.call, depth)
    if (
        isinstance(layer, layers.CategoryEncoding)
        and layer.output_mode in _COUNTED
        and not layer.sparse
    ):
        return lambda inputs: _encoded(
            inputs, layer.output_mode, layer.num_tokens
        )
    return None


def _looked_up(layer, lookup, depth, inputs):
    """Computes what a `StringLookup` does, with sizes that the file knows.

    A lookup leaves TFLite without any size, and where it then computes one,
    LiteRT may read it before that.

    Args:
        layer: `StringLookup`.
        lookup: its own `call`.
        depth: int, number of indices.
        inputs: tensor of str.
    """
    with attribute_set(layer, "output_mode", "int"):
        indices = lookup(inputs)
    sizes = inputs.shape[1:]
    if None not in sizes:
        indices = ops.reshape(indices, (-1, *sizes))
    return _encoded(indices, layer.output_mode, depth)


def _entries(layer):
    """Index of unknown values, and a dict of index to value of all others."""
    every = layer.get_vocabulary()
    known = layer.get_vocabulary(include_special_tokens=False)
    start = len(every) - len(known)  # behind the mask and the unknown values
    entries = dict(enumerate(known, start))
    if start == 2:
        entries[0] = layer.mask_token
    return start - 1, entries


def _indices(inputs, unknown, entries):
    """Index of each of some integers.

    One comparison per entry: the one that matches adds the difference of its
    index from that of unknown values.
    """
    values = np.array([int(value) for value in entries.values()], "int64")
    steps = np.array([index - unknown for index in entries], "int32")
    inputs = ops.expand_dims(ops.cast(inputs, "int64"), -1)
    found = ops.cast(ops.equal(inputs, values), "int32")
    return ops.sum(found * steps, axis=-1) + unknown


def _encoded(indices, mode, depth):
    """One-hot or counted indices, as Keras encodes them."""
    if mode == "int":
        return ops.cast(indices, "int64")
    if mode == "one_hot" and len(indices.shape) > 1 and indices.shape[-1] == 1:
        indices = ops.squeeze(indices, -1)
    hot = ops.one_hot(indices, depth, dtype=keras.config.floatx())
    if mode == "one_hot":
        return hot
    return ops.max(hot, -2) if mode == "multi_hot" else ops.sum(hot, -2)

"""Recurrent layers as loops of operations that TFLite has built in."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras

from keras_cascade.errors import ExportError
from keras_cascade.utils.attributes import attribute_set


@contextlib.contextmanager
def as_loops(*models: Any) -> Iterator[None]:
    """Context in which recurrent layers are traced as loops for TFLite.

    Keras's own loops keep their steps in lists of tensors, which TFLite lacks
    for a free batch size. These loops gather each step from the sequence, and
    put it where it belongs in an array of the whole length: the numbers are
    the same, at any batch size and length, and the file has one copy of the
    cell, whatever the length. Layers with `unroll=True` are not changed.

    Args:
        *models: `keras.Model`s; layers inside of them are included.

    Raises:
        ExportError: a layer keeps its state from batch to batch.
    """
    with contextlib.ExitStack() as changes:
        for model in models:
            if not hasattr(model, "_flatten_layers"):
                continue
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.RNN):
                    _check_stateless(layer)
                    if not layer.unroll:
                        loop = functools.partial(_loop, layer)
                        changes.enter_context(
                            attribute_set(layer, "inner_loop", loop)
                        )
                # The fused kernels of a GPU are no built-in operations.
                if hasattr(layer, "use_cudnn"):
                    changes.enter_context(
                        attribute_set(layer, "use_cudnn", False)
                    )
                # A cell draws its masks, from a variable, and then does not
                # use them in inference.
                for name in ("dropout", "recurrent_dropout"):
                    if hasattr(layer, "get_dropout_mask"):
                        changes.enter_context(attribute_set(layer, name, 0.0))
        yield


def _check_stateless(layer):
    if layer.stateful:
        raise ExportError(
            f"Expected recurrent layers that begin anew with every example. "
            f"Received '{layer.name}' ({type(layer).__name__}) with "
            "`stateful=True`, whose answer depends on the calls before it. "
            "Build the model with `stateful=False` and give it the weights of "
            "this one, `new.set_weights(old.get_weights())`."
        )


def _loop(layer, sequences, initial_state, mask, training=False):
    """Loop over the steps of a sequence, in inference.

    Args:
        layer: `keras.layers.RNN`.
        sequences: tensor `(batch, steps, ...)`.
        initial_state: structure of tensors, batch first.
        mask: bool tensor `(batch, steps)`; masked steps change no state, and
            put out what the step before did. Or `None`.
        training: ignored.

    Returns:
        `(last output, outputs, states)`, as `keras.layers.RNN.inner_loop`.
    """
    import tensorflow as tf

    if isinstance(mask, (list, tuple)):
        mask = mask[0]
    shape = tf.shape(sequences)
    steps, numbers = shape[1], tf.range(shape[1])
    states = keras.tree.flatten(initial_state)
    # Of this step only the form is used.
    first, _ = layer.cell(sequences[:, 0], initial_state)
    nothing = tf.zeros_like(first)
    outputs = tf.expand_dims(nothing, 1)
    if layer.return_sequences:
        whole = tf.concat([shape[:2], tf.shape(nothing)[1:]], axis=0)
        outputs = tf.zeros(whole, nothing.dtype)
        outputs.set_shape([*sequences.shape[:2], *nothing.shape[1:]])

    def step(number, outputs, last, *states):
        index = steps - 1 - number if layer.go_backwards else number
        output, new_states = layer.cell(
            tf.gather(sequences, index, axis=1),
            keras.tree.pack_sequence_as(initial_state, list(states)),
        )
        new_states = keras.tree.flatten(new_states)
        if mask is not None:
            seen = tf.gather(tf.cast(mask, "bool"), index, axis=1)
            kept = nothing if layer.zero_output_for_mask else last
            output = _where(seen, output, kept)
            new_states = [
                _where(seen, new, old)
                for new, old in zip(new_states, states, strict=True)
            ]
        if layer.return_sequences:
            here = tf.equal(numbers, number)
            here = tf.reshape(here, [1, -1] + [1] * (len(output.shape) - 1))
            outputs = tf.where(here, tf.expand_dims(output, 1), outputs)
        return (number + 1, outputs, output, *new_states)

    loop = (tf.constant(0), outputs, nothing, *states)
    _, outputs, last, *states = tf.while_loop(
        lambda number, *_: number < steps,
        step,
        loop,
        shape_invariants=tuple(tensor.shape for tensor in loop),
    )
    if not layer.return_sequences:
        outputs = tf.expand_dims(last, 1)
    return last, outputs, keras.tree.pack_sequence_as(initial_state, states)


def _where(seen, one, other):
    import tensorflow as tf

    seen = tf.reshape(seen, [-1] + [1] * (len(one.shape) - 1))
    return tf.where(seen, one, other)

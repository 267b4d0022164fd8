"""A layer that is made of other layers, as the model that it amounts to."""

import keras


def as_model(layer, inputs):
    """The functional model of what a layer calls.

    Its `call` runs once on symbolic inputs. Whatever it does through layers
    and `keras.ops` is then a graph, as in KerasHub's convolutional blocks.

    Args:
        layer: built `keras.layers.Layer`.
        inputs: the tensors that it takes.

    Returns:
        `keras.Model`, or `None` where the graph does not hold all of the
        layer's weights, or `call` does not take symbolic inputs.
    """
    given = [
        keras.Input(
            batch_shape=(None, *tensor.shape[1:]),
            dtype=keras.backend.standardize_dtype(tensor.dtype),
        )
        for tensor in inputs
    ]
    try:
        outputs = layer.call(*given)
        model = keras.Model(given, outputs)
        # A weight that `call` uses by itself is in no layer of the graph.
        held = {id(weight) for weight in model.weights}
    # Of the user's own code, which may expect anything.
    except Exception:
        return None
    whole = all(id(weight) in held for weight in layer.weights)
    return model if whole else None

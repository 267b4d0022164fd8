"""Inputs that differ as real ones do, and answers that differ with them."""

import keras
import numpy as np

#: Rows that statistics and the head are fitted on.
FITTED_ON = 512
#: Of BatchNormalization: most units of a ReLU are then active. Without it a
#: deep network of random weights is chaotic, and the rounding of any 8-bit
#: file would be amplified to another answer.
OFFSET = 1.0
#: Standard deviation that every logit gets over those rows.
LOGIT_SCALE = 3.0


def images(seed, rows, size, lowest, highest):
    """Coloured blobs: pixels that differ from their neighbours alone would
    leave nothing behind a pooling layer that could tell images apart.

    Args:
        seed: int.
        rows: int.
        size: int, pixels of a side.
        lowest: float, least value.
        highest: float, greatest value.

    Returns:
        float32 array `(rows, size, size, 3)`.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.random((rows, 5, 5, 3))
    # Bilinear, along one axis and then the other.
    places = np.linspace(0, 4, size)
    weight = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(5)))
    smooth = np.einsum("xi,yj,nijc->nxyc", weight, weight, coarse)
    contrast = rng.uniform(0.3, 1.0, (rows, 1, 1, 3))
    noise = rng.normal(scale=0.05, size=smooth.shape)
    values = np.clip(0.5 + contrast * (smooth - 0.5) + noise, 0, 1)
    return (lowest + (highest - lowest) * values).astype("float32")


def tokens(seed, rows, vocabulary, length, segments=False):
    """Token ids of different lengths, with their mask.

    Each text draws from few words of its own, so that texts differ.

    Args:
        seed: int.
        rows: int.
        vocabulary: int.
        length: int, of the longest.
        segments: bool, adds `segment_ids`. Defaults to `False`.

    Returns:
        Dict of int32 arrays `(rows, length)`.
    """
    rng = np.random.default_rng(seed)
    topics = rng.integers(1, vocabulary, (rows, 6))
    ids = np.take_along_axis(topics, rng.integers(0, 6, (rows, length)), axis=1)
    mask = np.arange(length) < rng.integers(length // 3, length + 1, (rows, 1))
    columns = {"token_ids": ids * mask, "padding_mask": mask}
    if segments:
        columns["segment_ids"] = np.zeros_like(ids)
    return {name: array.astype("int32") for name, array in columns.items()}


def give_varied_answers(model, inputs):
    """Changes a model at its initial weights so that comparing it says much.

    At random initialisation a deep model answers nearly the same to
    everything, and any two of its exports would agree. Here biases and scales
    get noise, scales that start at almost nothing (ConvNeXt's) become
    0.3 to 1, BatchNormalization gets an offset of 1 and the statistics of real
    activations, and the last layer reads the principal directions of what
    reaches it, so that every logit has a standard deviation of 3 over the
    inputs.

    Args:
        model: functional `keras.Model` whose logits are those of one layer
            with a kernel `(..., features, classes)` and a bias.
        inputs: its inputs.
    """
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.Model):
            continue
        for weight in layer._trainable_variables:
            _disturb(weight, rng)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.center:
            layer.beta.assign(layer.beta + OFFSET)
    _fit_statistics(model, inputs)
    head = _head(model)
    kernel, bias = head.trainable_variables
    classes = bias.shape[0]
    features = _features(model, head, inputs)
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:classes]
    # Each with the variance that it has: made equal, the last would be noise
    # of rounding.
    mixed, _ = np.linalg.qr(rng.normal(size=(classes, classes)))
    weights = directions.T @ mixed[: len(directions)]
    weights = LOGIT_SCALE * weights / (centred @ weights).std(axis=0)
    kernel.assign(weights.reshape(kernel.shape).astype("float32"))
    bias.assign((-features.mean(axis=0) @ weights).astype("float32"))
    scale = model.predict_on_batch(inputs).std(axis=0)
    if not np.allclose(scale, LOGIT_SCALE, rtol=0.05):
        raise ValueError(
            f"Expected every logit to have a standard deviation of "
            f"{LOGIT_SCALE}. Received: {scale}."
        )


def _disturb(weight, rng):
    array = keras.ops.convert_to_numpy(weight)
    if array.ndim != 1:
        return
    if 0 < np.abs(array).max() < 1e-2:
        array = rng.uniform(0.3, 1.0, array.shape)
    else:
        array = array + rng.normal(scale=0.1, size=array.shape)
    weight.assign(array.astype("float32"))


def _fit_statistics(model, inputs):
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(inputs, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _head(model):
    """The layer that makes the logits, behind which nothing has weights."""
    with_weights = [
        layer
        for layer in model._flatten_layers()
        if not isinstance(layer, keras.Model)
        and layer._trainable_variables
        and layer.trainable_variables[-1].shape == model.output.shape[1:]
        and len(layer.trainable_variables) == 2
    ]
    if not with_weights:
        raise ValueError(
            "Expected a layer with a kernel and as many biases as classes. "
            "Received none."
        )
    return with_weights[-1]


def _features(model, head, inputs):
    """What reaches the last layer, `(rows, features)`."""
    reaching = keras.Model(model.input, head.input)
    outputs = reaching.predict_on_batch(inputs)
    return np.reshape(outputs, (-1, outputs.shape[-1])).astype("float64")

"""Pruning and clustering of weights while training."""

import numpy as np

PRUNABLE = (
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "Embedding",
    "SeparableConv1D",
    "SeparableConv2D",
)
#: Share of the training steps before the final sparsity is reached.
RAMP = 0.6
#: Number of updates of the mask in that time.
UPDATES = 50


def train_pruned(model, tuner, sparsity):
    """Trains a model until a share of its weights is zero.

    Args:
        model: `tf_keras.Model`.
        tuner: `FineTuner`.
        sparsity: float, share of zeros in every kernel at the end.

    Returns:
        `(model, losses, layers that are skipped)`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    ramp = max(1, int(RAMP * tuner.steps))
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=0,
        end_step=ramp,
        frequency=max(1, ramp // UPDATES),
    )
    compressed, skipped = _split(model, "pruning", lambda layer: True)

    def wrap(layer):
        if layer.name not in compressed:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(
            layer, pruning_schedule=schedule
        )

    pruned = tf_keras.models.clone_model(model, clone_function=wrap)
    losses = tuner.train(pruned, tfmot.sparsity.keras.UpdatePruningStep())
    return tfmot.sparsity.keras.strip_pruning(pruned), losses, skipped


def train_clustered(model, tuner, clusters):
    """Trains a model to a few distinct weights per kernel.

    Args:
        model: `tf_keras.Model`.
        tuner: `FineTuner`.
        clusters: int, distinct weights of every kernel.

    Returns:
        `(model, losses, layers that are skipped)`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    compressed, skipped = _split(
        model, "clustering", lambda layer: _kernel(layer).size > clusters
    )

    def wrap(layer):
        if layer.name not in compressed:
            return layer
        return tfmot.clustering.keras.cluster_weights(
            layer,
            number_of_clusters=clusters,
            cluster_centroids_init=start,
        )

    clustered = tf_keras.models.clone_model(model, clone_function=wrap)
    losses = tuner.train(clustered)
    return tfmot.clustering.keras.strip_clustering(clustered), losses, skipped


def weights_by_layer(model):
    """Dict of layer name to list of arrays."""
    return {layer.name: layer.get_weights() for layer in model.layers}


def measured_kernels(model):
    """Share of zeros and number of distinct values of every kernel.

    Args:
        model: `tf_keras.Model`, nested ones included.

    Returns:
        Dict of layer name to `(share of zeros, distinct values)`. A quantized
        kernel counts with its quantized values. A quantized convolution has
        one scale per channel: there, the most distinct values of any channel.
    """
    return {
        name: (float((kernel == 0).mean()), _distinct(kernel, by_channel))
        for name, kernel, by_channel in _kernels(model)
    }


def _split(model, what, fits):
    """Names of layers that are compressed, and layers that are skipped.

    Layers without trainable weights are in neither.
    """
    compressed, skipped = set(), []
    for layer in model.layers:
        kind = type(layer).__name__
        if not layer.trainable_weights:
            continue
        if kind in PRUNABLE and fits(layer):
            compressed.add(layer.name)
        elif kind in PRUNABLE:
            skipped.append((layer.name, "has fewer weights than clusters"))
        elif kind != "BatchNormalization":
            skipped.append((layer.name, f"{what} does not take {kind}"))
    return compressed, skipped


def _kernel(layer):
    return max(layer.get_weights(), key=lambda array: array.size)


def _kernels(model):
    import tf_keras

    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from _kernels(layer)
        elif hasattr(layer, "quantize_config"):
            # What the wrapper puts in the kernel's place when it runs.
            for weight, quantizer, ranges in layer._weight_vars:
                kernel = quantizer(weight, False, weights=ranges)
                yield layer.layer.name, kernel.numpy(), kernel.ndim == 4
        elif type(layer).__name__ in PRUNABLE:
            sizes = {array.size: array for array in layer.get_weights()}
            yield layer.name, sizes[max(sizes)], False


def _distinct(kernel, by_channel):
    if not by_channel:
        return len(np.unique(kernel))
    channels = kernel.reshape(-1, kernel.shape[-1]).T
    return max(len(np.unique(channel)) for channel in channels)

"""In the child: pruning and clustering, trained and taken off again."""

PRUNABLE = (
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "Embedding",
    "SeparableConv1D",
    "SeparableConv2D",
)
#: Of the training steps, so many pass before the sparsity is reached.
RAMP = 0.6
#: How often, in that time, the mask is made anew.
UPDATES = 50


def prune(model, tuning, sparsity):
    """Trains a model to a sparsity.

    Args:
        model: `tf_keras.Model`.
        tuning: `FineTuning`.
        sparsity: float, share of zeros in every kernel at the end.

    Returns:
        `(model, losses, layers left as they were)`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    ramp = max(1, int(RAMP * tuning.steps))
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=0,
        end_step=ramp,
        frequency=max(1, ramp // UPDATES),
    )
    taken, left = _split(model, "pruning", lambda layer: True)

    def wrap(layer):
        if layer.name not in taken:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(
            layer, pruning_schedule=schedule
        )

    pruned = tf_keras.models.clone_model(model, clone_function=wrap)
    losses = tuning.train(pruned, tfmot.sparsity.keras.UpdatePruningStep())
    return tfmot.sparsity.keras.strip_pruning(pruned), losses, left


def cluster(model, tuning, clusters):
    """Trains a model to a few distinct weights a kernel.

    Args:
        model: `tf_keras.Model`.
        tuning: `FineTuning`.
        clusters: int, distinct weights of every kernel.

    Returns:
        `(model, losses, layers left as they were)`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    taken, left = _split(
        model, "clustering", lambda layer: _kernel(layer).size > clusters
    )

    def wrap(layer):
        if layer.name not in taken:
            return layer
        return tfmot.clustering.keras.cluster_weights(
            layer,
            number_of_clusters=clusters,
            cluster_centroids_init=start,
        )

    clustered = tf_keras.models.clone_model(model, clone_function=wrap)
    losses = tuning.train(clustered)
    return tfmot.clustering.keras.strip_clustering(clustered), losses, left


def weights_by_layer(model):
    """Dict of layer name to list of arrays."""
    return {layer.name: layer.get_weights() for layer in model.layers}


def _split(model, what, fits):
    """Names of layers that are taken, and of those with weights that are not.

    A model all of whose layers are left is refused by the caller.
    """
    taken, left = set(), []
    for layer in model.layers:
        kind = type(layer).__name__
        if not layer.trainable_weights:
            continue
        if kind in PRUNABLE and fits(layer):
            taken.add(layer.name)
        elif kind in PRUNABLE:
            left.append((layer.name, "has fewer weights than clusters"))
        elif kind != "BatchNormalization":
            left.append((layer.name, f"{what} does not take {kind}"))
    return taken, left


def _kernel(layer):
    return max(layer.get_weights(), key=lambda array: array.size)

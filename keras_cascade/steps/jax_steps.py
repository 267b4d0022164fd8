"""Stateless training and test steps on JAX."""

import jax
import keras

from keras_cascade.datasets.batches import unpack


def train_step(model, state, data):
    """Runs one optimizer step on the student.

    Args:
        model: `SelectiveTrainer`.
        state: tuple of the values of the trainable, non-trainable, optimizer
            and metrics variables.
        data: `(x, y)` or `(x, y, sample_weight)`.

    Returns:
        `(metrics, state)`.
    """
    trainable, frozen, optimizer, metrics = state
    x, y, sample_weight = unpack(data)
    (_, aux), gradients = jax.value_and_grad(
        model.compute_loss_and_updates, has_aux=True
    )(
        trainable,
        frozen,
        metrics,
        x,
        y,
        sample_weight,
        training=True,
        optimizer_variables=optimizer,
    )
    loss, outputs, frozen, metrics = aux
    trainable, optimizer = model.optimizer.stateless_apply(
        optimizer, gradients, trainable
    )
    logs, metrics = _updated(model, metrics, loss, x, y, outputs, sample_weight)
    return logs, (trainable, frozen, optimizer, metrics)


def test_step(model, state, data):
    """Runs one batch of `evaluate`, both models on every row."""
    trainable, frozen, metrics = state
    x, y, sample_weight = unpack(data)
    _, aux = model.compute_loss_and_updates(
        trainable, frozen, metrics, x, y, sample_weight, training=False
    )
    loss, outputs, frozen, metrics = aux
    logs, metrics = _updated(model, metrics, loss, x, y, outputs, sample_weight)
    return logs, (trainable, frozen, metrics)


def recover(model):
    """Gives the variables their values back after an error in `fit`.

    Keras takes them away for the length of an epoch, and only brings them
    back at its end.
    """
    model.jax_state_sync()


def of_all_replicas(rows):
    """Rows of the whole batch, which on JAX every step has."""
    return rows


def _updated(model, values, loss, x, y, outputs, sample_weight):
    """Updated metrics and the new values of their variables."""
    variables = model.metrics_variables
    mapping = list(zip(variables, values, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        logs = model.update_metrics(loss, x, y, outputs, sample_weight)
    return logs, [
        new if (new := scope.get_current_value(v)) is not None else old
        for v, old in mapping
    ]

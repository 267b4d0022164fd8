"""Training and test steps on TensorFlow, with or without a strategy."""

import tensorflow as tf

from keras_cascade.datasets.batches import unpack


def train_step(model, data):
    """Runs one optimizer step on the student.

    Under a strategy every replica's loss is its share of the loss over the
    whole batch, so that the summed gradient is that of one device, however
    the examples are spread.

    Args:
        model: `SelectiveTrainer`.
        data: `(x, y)` or `(x, y, sample_weight)`.

    Returns:
        Dict of metrics.
    """
    x, y, sample_weight = unpack(data)
    # Outside the tape: nothing of the teacher is recorded.
    teacher = model.teacher_outputs(x, training=True)
    with tf.GradientTape() as tape:
        outputs = {**teacher, **model.student_outputs(x, training=True)}
        loss = model.compute_loss(x, y, outputs, sample_weight)
        share = _share_of_all_replicas(y)
        scaled_loss = model.optimizer.scale_loss(loss * share)
    variables = model.trainable_variables
    gradients = tape.gradient(scaled_loss, variables)
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    outputs = model.with_answer(outputs)
    return model.update_metrics(loss, x, y, outputs, sample_weight)


def test_step(model, data):
    """Runs one batch of `evaluate`, both models on every row."""
    x, y, sample_weight = unpack(data)
    outputs = model(x, training=False)
    loss = model.compute_loss(x, y, outputs, sample_weight, training=False)
    return model.update_metrics(loss, x, y, outputs, sample_weight)


def recover(model):
    """Does nothing: on TensorFlow the variables keep their values."""


def of_all_replicas(rows):
    """Rows of the whole batch, in place of those of one replica.

    Args:
        rows: tensor, batch first.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return rows
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def _share_of_all_replicas(y):
    """Share of the whole batch's examples that this replica holds."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return 1.0
    examples = tf.cast(tf.shape(y)[0], "float32")
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, examples)
    return tf.stop_gradient(tf.math.divide_no_nan(examples, total))

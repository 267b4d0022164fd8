"""Fine-tuning of a student by its distillation policy."""

import dataclasses

import numpy as np

from keras_cascade.utils.numpy_top_k import TopKRows
from keras_cascade.utils.tensor_ops import mean_weighted_loss


@dataclasses.dataclass
class Examples:
    """Training examples with the teacher's logits.

    Attributes:
        inputs: list of arrays, one per input of the student.
        labels: int32 array `(examples,)`.
        teacher_logits: float32 array `(examples, classes)`, or `TopKRows` of
            it; batches of either are dense.
        sample_weight: float32 array `(examples,)`, or `None`.
    """

    inputs: list
    labels: np.ndarray
    teacher_logits: np.ndarray | TopKRows
    sample_weight: np.ndarray | None

    def __len__(self):
        return len(self.labels)

    def batch(self, rows):
        """`(inputs, labels, teacher logits, weights)` of some rows."""
        import tensorflow as tf

        tensors = [
            tf.convert_to_tensor(array[rows])
            for array in (*self.inputs, self.labels, self.teacher_logits)
        ]
        weight = self.sample_weight
        weight = None if weight is None else tf.convert_to_tensor(weight[rows])
        return tensors[:-2], tensors[-2], tensors[-1], weight


class FineTuner:
    """Fine-tunes models by one policy on the same examples.

    `train` is for Keras 2; what takes Keras 3 has a `train` of its own.

    Args:
        policy: `DistillationPolicy`.
        examples: `Examples`.
        epochs: int.
        batch_size: int.
        learning_rate: float, of Adam at the start. It falls to zero along a
            cosine, so that the result is not one point of a noisy walk.
        seed: int, of the order of the examples.
    """

    def __init__(
        self, policy, examples, epochs, batch_size, learning_rate, seed
    ):
        self.policy = policy
        self.examples = examples
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    @property
    def steps(self):
        """Number of optimizer steps of one training."""
        return self.epochs * -(-len(self.examples) // self.batch_size)

    def loss(self, model, batch, training):
        """`(loss, examples)` of a batch, as `Cascade.fit` computes it."""
        import tensorflow as tf

        inputs, labels, teacher_logits, sample_weight = batch
        outputs = model(inputs, training=training)
        outputs = outputs[0] if isinstance(outputs, list) else outputs
        args = (labels, teacher_logits, tf.cast(outputs, tf.float32))
        weight = self.policy.example_weight(*args)
        if weight is None:
            weight = sample_weight
        elif sample_weight is not None:
            weight = weight * tf.cast(sample_weight, weight.dtype)
        loss = mean_weighted_loss(self.policy.example_loss(*args), weight)
        for penalty in model.losses:
            loss += tf.cast(tf.reduce_sum(penalty), loss.dtype)
        return loss, tf.cast(tf.shape(labels)[0], loss.dtype)

    def evaluate(self, model):
        """Mean loss over all examples in inference mode."""
        import tensorflow as tf

        step = tf.function(
            lambda *batch: self.loss(model, batch, training=False)
        )
        rows = np.arange(len(self.examples))
        return _mean(step(*batch) for batch in self._batches(rows))

    def train(self, model, callback=None, frozen=()):
        """Trains a model.

        Args:
            model: `tf_keras.Model` from a list of inputs; its first output
                is the student's.
            callback: `tf_keras` callback, called around batches and epochs.
                Defaults to `None`.
            frozen: variables that the optimizer does not update. Defaults to
                `()`.

        Returns:
            List of mean losses, one per epoch.
        """
        import tensorflow as tf
        import tf_keras

        optimizer = tf_keras.optimizers.Adam(
            tf_keras.optimizers.schedules.CosineDecay(
                self.learning_rate, self.steps
            )
        )
        frozen = {id(variable) for variable in frozen}
        variables = [
            v for v in model.trainable_variables if id(v) not in frozen
        ]
        optimizer.build(variables)

        @tf.function
        def step(*batch):
            with tf.GradientTape() as tape:
                loss, rows = self.loss(model, batch, training=True)
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return loss, rows

        if callback is not None:
            model.optimizer = optimizer
            callback.set_model(model)
            callback.on_train_begin()
        return self.run(step, callback)

    def run(self, step, callback=None):
        """Runs a training step over all examples, `epochs` times.

        Args:
            step: function from a batch to `(loss, examples)`.
            callback: as in `train`. Defaults to `None`.

        Returns:
            List of mean losses, one per epoch.
        """

        def batches(rows):
            for batch in self._batches(rows):
                if callback is not None:
                    callback.on_train_batch_begin(-1)
                yield batch

        order = np.random.default_rng(self.seed)
        losses = []
        for _ in range(self.epochs):
            rows = order.permutation(len(self.examples))
            losses.append(_mean(step(*batch) for batch in batches(rows)))
            if callback is not None:
                callback.on_epoch_end(-1)
        return losses

    def _batches(self, rows):
        for start in range(0, len(rows), self.batch_size):
            yield self.examples.batch(rows[start : start + self.batch_size])


def _mean(losses):
    """Mean over the examples of `(loss, examples)` pairs."""
    pairs = np.array([(float(a), float(b)) for a, b in losses])
    return float(np.average(pairs[:, 0], weights=pairs[:, 1]))

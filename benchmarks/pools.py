"""Real examples, scored by a cascade that never saw them."""

import keras
import numpy as np

import keras_cascade as kc

BATCH = 256


def pool_results(spec, training, teacher_epochs, student_epochs, seed=0):
    """Trains a cascade on a part of a data set and judges all the rest.

    Args:
        spec: str, data spec of images.
        training: int, number of training examples.
        teacher_epochs: int.
        student_epochs: int.
        seed: int. Defaults to `0`.

    Returns:
        `keras_cascade.evaluation.ExampleResults` of the examples that were not
        trained on.
    """
    keras.utils.set_random_seed(seed)
    x, y, splits = _everything(spec)
    order = np.random.default_rng(seed).permutation(len(y))
    inside, outside = order[:training], order[training:]
    teacher = kc.models.image_teacher(splits.input_shape, splits.classes, 16)
    teacher.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(
        x[inside], y[inside], batch_size=64, epochs=teacher_epochs, verbose=0
    )
    cascade = kc.Cascade(
        teacher, kc.models.image_student(splits.input_shape, splits.classes, 4)
    )
    cascade.compile(optimizer=keras.optimizers.Adam(5e-3))
    cascade.fit(
        x[inside], y[inside], batch_size=64, epochs=student_epochs, verbose=0
    )
    return cascade.judge((x[outside], y[outside]), batch_size=BATCH)


def _everything(spec):
    splits = kc.datasets.load(spec)
    parts = [
        batch
        for split in (splits.train, splits.calibration, splits.test)
        for batch in split.batch(4096).as_numpy_iterator()
    ]
    x = np.concatenate([part[0] for part in parts])
    y = np.concatenate([part[1] for part in parts])
    return x, y, splits

"""One training step and one test step per backend."""

import keras

if keras.backend.backend() == "jax":
    from keras_cascade.steps.jax_steps import recover, test_step, train_step
else:
    from keras_cascade.steps.tensorflow_steps import (  # type: ignore[assignment]
        recover,
        test_step,
        train_step,
    )

__all__ = ["recover", "test_step", "train_step"]

"""One training step and one test step per backend."""

import keras

if keras.backend.backend() == "jax":
    from keras_cascade.steps.jax_steps import (
        of_all_replicas,
        recover,
        test_step,
        train_step,
    )
else:
    from keras_cascade.steps.tensorflow_steps import (  # type: ignore[assignment]
        of_all_replicas,
        recover,
        test_step,
        train_step,
    )

__all__ = ["of_all_replicas", "recover", "test_step", "train_step"]

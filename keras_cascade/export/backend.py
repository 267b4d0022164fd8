"""Backend that the exporters need."""

import keras


def check_backend():
    """Raises a `RuntimeError` unless Keras runs on TensorFlow.

    Every public exporter calls it first.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "Export needs the TensorFlow backend. Received: "
            f"'{backend}'. Save the cascade with `cascade.save('c.keras')`, "
            "start Python again with KERAS_BACKEND=tensorflow, and call "
            "`keras.models.load_model('c.keras').export(...)`."
        )

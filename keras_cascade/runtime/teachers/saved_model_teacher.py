"""A teacher on this machine: the bundle's own SavedModel."""

from keras_cascade.runtime.teachers.teacher_error import TeacherError


class SavedModelTeacher:
    """Runs a SavedModel in this process. Needs TensorFlow.

    Args:
        folder: path of a SavedModel with the signature `serving_default`.
        output: str, the output to read. Defaults to `"logits"`.
    """

    def __init__(self, folder, output="logits"):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise TeacherError(
                "A local teacher needs TensorFlow: install `tensorflow`, or "
                "pass the URL of a teacher that runs elsewhere."
            ) from error
        self._tf = tf
        try:
            self._model = tf.saved_model.load(str(folder))
            self._signature = self._model.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise TeacherError(
                f"Expected a SavedModel with the signature 'serving_default' "
                f"in '{folder}'. Received: {error}"
            ) from error
        self._output = output

    def check(self):
        """Raises a `TeacherError` where the teacher cannot answer: never."""

    def logits(self, inputs):
        """Logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.
        """
        tensors = {k: self._tf.constant(v) for k, v in inputs.items()}
        return self._signature(**tensors)[self._output].numpy()

    def close(self):
        """Nothing to close."""

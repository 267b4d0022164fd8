"""Task: one of two classes per example."""

import keras

from keras_cascade.tasks.multiclass import MultiClass


@keras.saving.register_keras_serializable("keras_cascade")
class Binary(MultiClass):
    """One of two classes per example.

    As `MultiClass`, with a check that there are two classes. Models with one
    output, with or without a sigmoid, are read as those of two classes.

    Example:

    >>> import keras, keras_cascade as kc
    >>> teacher, student = (
    ...     keras.Sequential(
    ...         [keras.Input((4,)), keras.layers.Dense(1, "sigmoid")]
    ...     )
    ...     for _ in range(2)
    ... )
    >>> kc.Cascade(teacher, student, task="binary").classes
    2
    """

    def check_classes(self, classes: int) -> None:
        if classes != 2:
            raise ValueError(
                "Expected models of two classes with task='binary': one "
                f"output, or two. Received: {classes}."
            )

"""A TensorFlow SavedModel as a teacher."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import CLIP
from keras_cascade.teachers.teacher import SINGLE_INPUT, Teacher, files_sha256


class SavedModel(Teacher):
    """TensorFlow SavedModel, run in this process.

    Its graph runs with the rights of this process: load only those of people
    you trust. A saved cascade holds the path, not the files. A bundle holds
    the graph and its weights, under the names of the cascade's inputs and
    with the output `logits`.

    Args:
        path: folder of the SavedModel.
        signature: str. Defaults to `"serving_default"`.
        output: str, the output to read. Defaults to `None`: the only one, or
            the one called `logits`.
        outputs: of `Teacher`. Defaults to `"logits"`.
        clip: of `Teacher`. Defaults to `1e-7`.

    Raises:
        ValueError: there is no SavedModel, or it has no such signature or
            output.

    Example:

    ```python
    teacher = kc.teachers.SavedModel("exported/1", outputs="probabilities")
    cascade = kc.Cascade(teacher, student)
    ```
    """

    def __init__(
        self,
        path: str | os.PathLike,
        signature: str = "serving_default",
        output: str | None = None,
        outputs: str = "logits",
        clip: float = CLIP,
    ) -> None:
        super().__init__(outputs, clip)
        import tensorflow as tf

        self.path = os.fspath(path)
        self.signature = signature
        if not Path(self.path, "saved_model.pb").is_file():
            raise ValueError(
                "Expected the folder of a SavedModel, which holds "
                f"`saved_model.pb`. Received: '{self.path}'."
            )
        self._loaded = tf.saved_model.load(self.path)
        self._function = _signature(self._loaded, signature, self.path)
        self._specs = self._function.structured_input_signature[1]
        self.output = _output(self._function, output, self.path)

    def answers(self, inputs: Any) -> np.ndarray:
        import tensorflow as tf

        tensors = {
            name: tf.cast(one, spec.dtype)
            if spec.dtype != tf.string
            else tf.constant(np.asarray(one, object), tf.string)
            for name, (one, spec) in self._named(inputs).items()
        }
        return self._function(**tensors)[self.output].numpy()

    def describe(self) -> str:
        return f"the SavedModel '{os.path.basename(self.path)}'"

    def identity(self) -> str:
        root = Path(self.path)
        options = f"{self.signature} {self.output} {self.outputs} {self.clip}"
        return files_sha256(
            {
                f"{options} {file.relative_to(root).as_posix()}": file
                for file in root.rglob("*")
                if file.is_file() and file.name != "fingerprint.pb"
            }
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "path": self.path,
            "signature": self.signature,
            "output": self.output,
        }

    @classmethod
    def restored(cls, config: dict[str, Any]) -> Teacher:
        return cls(**config)

    def write(self, folder: Path, signature: Any) -> dict | None:
        import tensorflow as tf

        def model(inputs, training=False):
            tensors = {
                name: tf.cast(one, spec.dtype)
                for name, (one, spec) in self._named(inputs).items()
            }
            values = tf.cast(self._function(**tensors)[self.output], tf.float32)
            values = tf.reshape(values, (tf.shape(values)[0], -1))
            one_column = values.shape[-1] == 1
            if self.outputs == "logits":
                if one_column:
                    values = tf.concat([tf.zeros_like(values), values], axis=1)
                return values
            if one_column:
                values = tf.concat([1.0 - values, values], axis=1)
            return tf.math.log(tf.clip_by_value(values, self.clip, 1.0))

        signature.write_saved_model(
            folder, model, lambda logits: {"logits": logits}, [self._loaded]
        )
        return {}

    def _named(self, inputs):
        """Dict of the signature's input names to `(input, TensorSpec)`."""
        named = inputs if isinstance(inputs, dict) else {SINGLE_INPUT: inputs}
        if len(named) == len(self._specs) == 1:
            named = dict(zip(self._specs, named.values(), strict=True))
        if set(named) != set(self._specs):
            raise ValueError(
                f"Expected the inputs {sorted(self._specs)} of "
                f"{self.describe()}. Received: {sorted(named)}. Name the "
                "cascade's inputs so."
            )
        return {name: (one, self._specs[name]) for name, one in named.items()}


def _signature(loaded, name, path):
    if name not in loaded.signatures:
        raise ValueError(
            f"Expected `signature` out of {sorted(loaded.signatures)}, those "
            f"of the SavedModel '{path}'. Received: {name!r}."
        )
    return loaded.signatures[name]


def _output(function, output, path):
    names = sorted(function.structured_outputs)
    if output is None:
        output = names[0] if len(names) == 1 else "logits"
    if output not in names:
        raise ValueError(
            f"Expected `output` out of {names}, those of the SavedModel "
            f"'{path}'. Received: {output!r}."
        )
    return output

"""The student and its gate, run by LiteRT."""

import threading

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.utils.native_output import hidden_native_output

SIGNATURE = "serving_default"
OUTPUTS = ("probabilities", "score", "delegate")


class StudentInterpreter:
    """Runs the bundle's TFLite file.

    An interpreter is not thread-safe, so every thread gets its own.

    Args:
        file: path of a TFLite file with the signature `serving_default`.
        num_threads: int, threads inside one interpreter. Defaults to `1`.
    """

    def __init__(self, file, num_threads=1):
        self._file = str(file)
        self._num_threads = num_threads
        self._local = threading.local()
        self._runner()  # fail now rather than on the first request

    def run(self, inputs):
        """Runs a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`.
        """
        try:
            outputs = self._runner()(**inputs)
        except RuntimeError as error:
            raise self._unusable(error) from error
        return {name: outputs[name] for name in OUTPUTS}

    def input_names(self):
        """Names of the inputs, as the signature has them."""
        return sorted(self._runner().get_input_details())

    def check(self, specs, classes):
        """Raises unless the file has the inputs and classes of a manifest.

        Args:
            specs: list of `{"name", "shape", "dtype"}`, the batch first.
            classes: int.

        Raises:
            BundleError: it has others.
        """
        details = self._runner().get_input_details()
        found = {
            name: (np.dtype(detail["dtype"]).name, _row(detail))
            for name, detail in details.items()
        }
        expected = {
            spec["name"]: (spec["dtype"], spec["shape"][1:]) for spec in specs
        }
        outputs = self._runner().get_output_details()
        width = outputs["probabilities"]["shape"][-1]
        if not _fits(expected, found) or width != classes:
            raise BundleError(
                f"'{self._file}' does not fit its manifest. Expected: inputs "
                f"{expected} and {classes} classes. Received: inputs {found} "
                f"and {width} classes. Export the bundle again."
            )

    def close(self):
        """Lets go of every thread's interpreter; a later run makes another."""
        self._local = threading.local()

    def _runner(self):
        local = self._local
        if not hasattr(local, "runner"):
            from ai_edge_litert.interpreter import Interpreter

            try:
                with hidden_native_output():
                    interpreter = Interpreter(
                        model_path=self._file, num_threads=self._num_threads
                    )
                    interpreter.allocate_tensors()  # where LiteRT greets
                runner = interpreter.get_signature_runner(SIGNATURE)
            except (RuntimeError, ValueError) as error:
                raise self._unusable(error) from error
            missing = set(OUTPUTS) - set(runner.get_output_details())
            if missing:
                raise BundleError(
                    f"'{self._file}' lacks the outputs {sorted(missing)}. "
                    "Export the bundle again."
                )
            local.runner = runner
        return local.runner

    def _unusable(self, error):
        return BundleError(
            f"LiteRT cannot run '{self._file}': {str(error)[:300]} Export the "
            "bundle again."
        )


def _row(detail):
    """Sizes of one row of an input; `None` for one that may differ."""
    sizes = detail["shape_signature"][1:].tolist()
    return [None if size < 0 else size for size in sizes]


def _fits(expected, found):
    """Whether rows as the manifest has them fit what the file takes."""
    return expected.keys() == found.keys() and all(
        dtype == found[name][0]
        and len(row) == len(found[name][1])
        and all(
            taken in (None, size)
            for size, taken in zip(row, found[name][1], strict=True)
        )
        for name, (dtype, row) in expected.items()
    )

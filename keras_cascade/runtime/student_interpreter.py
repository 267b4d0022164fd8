"""The student and its gate, run by LiteRT."""

import threading

import numpy as np

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
        outputs = self._runner()(**inputs)
        return {name: outputs[name] for name in OUTPUTS}

    def input_names(self):
        """Names of the inputs, as the signature has them."""
        return sorted(self._runner().get_input_details())

    def check(self, specs, classes):
        """Raises unless the file has the inputs and classes of a manifest.

        Args:
            specs: list of `{"name", "dtype"}`.
            classes: int.
        """
        details = self._runner().get_input_details()
        found = {
            name: np.dtype(detail["dtype"]).name
            for name, detail in details.items()
        }
        expected = {spec["name"]: spec["dtype"] for spec in specs}
        outputs = self._runner().get_output_details()
        width = outputs["probabilities"]["shape"][-1]
        if found != expected or width != classes:
            raise ValueError(
                f"'{self._file}' does not fit its manifest. Expected: inputs "
                f"{expected} and {classes} classes. Received: inputs {found} "
                f"and {width} classes. Export the bundle again."
            )

    def _runner(self):
        if not hasattr(self._local, "runner"):
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(
                model_path=self._file, num_threads=self._num_threads
            )
            runner = interpreter.get_signature_runner(SIGNATURE)
            missing = set(OUTPUTS) - set(runner.get_output_details())
            if missing:
                raise ValueError(
                    f"'{self._file}' lacks the outputs {sorted(missing)}."
                )
            self._local.runner = runner
        return self._local.runner

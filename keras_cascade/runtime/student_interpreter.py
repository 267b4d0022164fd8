"""The student and its gate, run by LiteRT."""

import threading

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

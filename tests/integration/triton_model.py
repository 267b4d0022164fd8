"""A bundle's teacher.onnx for Triton's Python backend.

Triton imports this file in its own Python; this project is not there.
"""

import os

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """Runs `teacher.onnx` of the model's own version folder."""

    def initialize(self, arguments):
        """Loads the model; Triton calls this once."""
        self._session = onnxruntime.InferenceSession(
            os.path.join(
                arguments["model_repository"],
                arguments["model_version"],
                "teacher.onnx",
            ),
            providers=["CPUExecutionProvider"],
        )

    def execute(self, requests):
        """Returns one response per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        names = [one.name for one in self._session.get_inputs()]
        (logits,) = self._session.run(
            ["logits"],
            {
                name: triton.get_input_tensor_by_name(request, name).as_numpy()
                for name in names
            },
        )
        return triton.InferenceResponse([triton.Tensor("logits", logits)])

"""A bundle's teacher as a KServe model."""

import kserve
import numpy as np
from kserve.errors import InvalidInput

from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher


class TeacherModel(kserve.Model):
    """Answers TensorFlow Serving's REST form and Open Inference Protocol v2.

    Args:
        bundle: `keras_cascade.bundle.Bundle` with a teacher.
        name: str, the model's name on the wire. Defaults to `"teacher"`.
    """

    def __init__(self, bundle, name="teacher"):
        super().__init__(name)
        self._bundle = bundle
        self._teacher = None

    def load(self):
        """Loads the SavedModel and runs it once, so that it is warm."""
        self._teacher = SavedModelTeacher(self._bundle.teacher_folder)
        self._teacher.logits(
            {
                spec["name"]: np.zeros(
                    [1, *(size or 1 for size in spec["shape"][1:])],
                    spec["dtype"],
                )
                for spec in self._bundle.inputs
            }
        )
        self.ready = True
        return self.ready

    def validate(self, payload):
        """KServe's own check refuses named `inputs`; `predict` checks."""
        return payload

    async def preprocess(self, payload, headers=None):
        """Nothing to do: `predict` reads the request."""
        return payload

    async def predict(self, payload, headers=None, response_headers=None):
        """Logits for one request, in the request's own protocol."""
        if isinstance(payload, kserve.InferRequest):
            return self._predict_v2(payload)
        if not isinstance(payload, dict):
            raise InvalidInput(
                "Expected a JSON object with 'instances' or 'inputs'. "
                f"Received: {type(payload).__name__}."
            )
        given = {"instances", "inputs"} & payload.keys()
        if len(given) != 1:
            raise InvalidInput(
                "Expected exactly one of 'instances' and 'inputs'. Received: "
                f"{sorted(payload)[:10]}."
            )
        if "inputs" in payload:
            return {"outputs": self._logits(payload["inputs"]).tolist()}
        instances = _columns(payload["instances"])
        return {"predictions": self._logits(instances).tolist()}

    def _predict_v2(self, request):
        given = {one.name: one.as_numpy() for one in request.inputs}
        logits = self._logits(given)
        output = kserve.InferOutput(
            name="logits",
            shape=list(logits.shape),
            datatype="FP32",
        )
        output.set_data_from_numpy(logits, binary_data=False)
        return kserve.InferResponse(
            response_id=request.id or "",
            model_name=self.name,
            infer_outputs=[output],
        )

    def _logits(self, x):
        try:
            inputs = prepare_inputs(x, self._bundle.inputs, allow_single=False)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        return self._teacher.logits(inputs).astype("float32")


def _columns(instances):
    """Rows of named inputs to one column a name; other rows as they are."""
    if not isinstance(instances, list) or not instances:
        raise InvalidInput("Expected 'instances' to be a list with rows in it.")
    if not isinstance(instances[0], dict):
        return instances
    names = set(instances[0])
    if any(not isinstance(row, dict) or set(row) != names for row in instances):
        raise InvalidInput(
            "Expected every row of 'instances' to name the same inputs."
        )
    return {name: [row[name] for row in instances] for name in names}

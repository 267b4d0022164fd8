"""A bundle's teacher as a KServe model."""

import asyncio

import kserve
import numpy as np
from kserve.errors import InvalidInput

from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher

V2_TYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", "string": "BYTES",
}  # fmt: skip


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

    def get_input_types(self):
        """The model's inputs, for `GET /v2/models/teacher`."""
        return [
            {
                "name": spec["name"],
                "datatype": V2_TYPES[spec["dtype"]],
                "shape": [size or -1 for size in spec["shape"]],
            }
            for spec in self._bundle.inputs
        ]

    def get_output_types(self):
        """The model's output, for `GET /v2/models/teacher`."""
        classes = len(self._bundle.classes)
        return [{"name": "logits", "datatype": "FP32", "shape": [-1, classes]}]

    def validate(self, payload):
        """KServe's own check refuses named `inputs`; `predict` checks."""
        return payload

    async def preprocess(self, payload, headers=None):
        """Nothing to do: `predict` reads the request."""
        return payload

    async def predict(self, payload, headers=None, response_headers=None):
        """Logits for one request, in the request's own protocol."""
        if isinstance(payload, kserve.InferRequest):
            return await asyncio.to_thread(self._predict_v2, payload)
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
            logits = await asyncio.to_thread(self._logits, payload["inputs"])
            return {"outputs": logits.tolist()}
        instances = _columns(payload["instances"])
        logits = await asyncio.to_thread(self._logits, instances)
        return {"predictions": logits.tolist()}

    def _predict_v2(self, request):
        logits = self._logits(_tensors(request.inputs))
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


def _tensors(inputs):
    """Open Inference Protocol tensors to arrays, by name."""
    tensors = {}
    for one in inputs:
        if one.name in tensors:
            raise InvalidInput(f"Expected one input '{one.name}', not two.")
        if any(size < 1 for size in one.shape):
            raise InvalidInput(
                f"Expected input '{one.name}' to have positive sizes. "
                f"Received: {list(one.shape)}."
            )
        try:
            tensors[one.name] = one.as_numpy()
        except Exception as error:  # KServe raises whatever its data causes
            raise InvalidInput(
                f"Expected the data of input '{one.name}' to fit its shape "
                f"{list(one.shape)} and datatype {one.datatype}. Received "
                f"data that does not ({type(error).__name__}: "
                f"{str(error)[:200]})."
            ) from None
    return tensors


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

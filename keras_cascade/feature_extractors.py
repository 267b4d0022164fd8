"""Outputs of inner layers, in the same forward pass as the logits."""

import keras


class FeatureExtractors:
    """Runs teacher and student, and returns outputs of named layers.

    Kept outside Keras's tracking: the models it makes share the layers of
    teacher and student, and are no part of what is saved.

    Args:
        teacher: `keras.Model`, or a `Cascade`.
        student: `keras.Model`.
    """

    def __init__(self, teacher, student):
        self._models = {"teacher": teacher, "student": student}
        self._extractors = {}

    def teacher(self, inputs, layers, training):
        """`(logits, features)` of the teacher; features by layer name."""
        return self._run("teacher", inputs, layers, training)

    def student(self, inputs, layers, training):
        """`(logits, features)` of the student; features by layer name."""
        return self._run("student", inputs, layers, training)

    def _run(self, role, inputs, layers, training):
        model = self._models[role]
        if layers and hasattr(model, "preprocess"):  # texts
            inputs, model = model.preprocess(inputs), model.model
        if not layers:
            outputs = model(inputs, training=training)
            if isinstance(outputs, dict):  # a cascade
                outputs = outputs["logits"]
            return outputs, {}
        key = (role, *layers)
        if key not in self._extractors:
            self._extractors[key] = _extractor(role, model, layers)
        outputs = self._extractors[key](inputs, training=training)
        return outputs["logits"], outputs["features"]


def _extractor(role, model, layers):
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"Looking at the {role}'s layers {list(layers)} needs a {role} "
            "whose layers can be reached: Sequential or Functional, with an "
            f"`Input`. Received: {type(model).__name__}."
        )
    features = {name: model.get_layer(name).output for name in layers}
    return keras.Model(
        model.inputs, {"logits": model.output, "features": features}
    )

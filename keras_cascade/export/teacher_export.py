"""The teacher as a SavedModel in TF Serving's version layout."""


def export_teacher(cascade, folder, signature):
    """Writes the teacher with the signature `serving_default`.

    Args:
        cascade: `Cascade` with a built teacher; a teacher that is itself a
            cascade becomes one graph.
        folder: path to write to, such as `teacher/1`.
        signature: `Signature` of the inputs.
    """
    signature.write_saved_model(
        folder, cascade.teacher, as_logits, [cascade.teacher]
    )


def as_logits(outputs):
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"logits": logits}

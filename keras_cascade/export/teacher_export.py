"""The teacher as a SavedModel in TF Serving's version layout."""

from keras_cascade.export.model_side import check_in_graph


def export_teacher(side, folder):
    """Writes the teacher with the signature `serving_default`.

    Args:
        side: `ModelSide` of the built teacher; a teacher that is itself a
            cascade becomes one graph.
        folder: path to write to, such as `teacher/1`.

    Raises:
        ExportError: the teacher needs what no SavedModel can hold.
    """
    check_in_graph(side.model, "A SavedModel")
    side.signature.write_saved_model(
        folder, side.model, as_logits, [side.model]
    )


def as_logits(outputs):
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"logits": logits}

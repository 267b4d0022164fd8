"""How cached logits travel beside the inputs of a batch."""

INPUTS = "keras_cascade_inputs"
LOGITS = "keras_cascade_teacher_logits"


def join_cached(inputs, logits):
    """Inputs and cached teacher logits as one structure."""
    return {INPUTS: inputs, LOGITS: logits}


def split_cached(x):
    """`(inputs, logits)`; `logits` is `None` where none are cached."""
    if isinstance(x, dict) and set(x) == {INPUTS, LOGITS}:
        return x[INPUTS], x[LOGITS]
    return x, None

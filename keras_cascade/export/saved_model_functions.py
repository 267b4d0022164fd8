"""Rewriting of a SavedModel's functions before it is converted.

The converters of TFLite and ONNX see a SavedModel's function library, not
Keras layers. So an operation that a format lacks is replaced there, by a call
of a function that computes the same.
"""

from pathlib import Path

#: Set on a function that must be compiled as a whole, which no converter can
#: inline. Keras does so for convolutions of several groups.
FORCED = "_XlaMustCompile"
#: The number of this type in a graph (`types.proto`, `DT_FLOAT`).
FLOAT32 = 1
#: Coefficients and formula 7.1.26 of Abramowitz and Stegun, Handbook of
#: Mathematical Functions (1964): an error of at most 1.5e-7 for x >= 0.
INNER = 0.3275911
POLYNOMIAL = (
    0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429,
)  # fmt: skip


def allow_inlining(folder):
    """Allows converters to inline every function of a SavedModel.

    Args:
        folder: path of the SavedModel. It is changed.
    """

    def change(library):
        for function in library.function:
            for one in (function, *function.node_def):
                if FORCED in one.attr:
                    del one.attr[FORCED]

    _edit(folder, change)


def replace_operations(folder, replacements):
    """Replaces operations of one input by calls of functions.

    Operations of other types than float32 are unchanged.

    Args:
        folder: path of the SavedModel. It is changed.
        replacements: dict of an operation's name to a function from a float32
            tensor to one of the same shape.
    """
    import tensorflow as tf

    functions = {
        operation: tf.function(
            function, input_signature=[tf.TensorSpec(None, "float32")]
        )
        .get_concrete_function()
        .function_def
        for operation, function in replacements.items()
    }

    def change(library):
        for function in library.function:
            for node in function.node_def:
                if node.op in functions and node.attr["T"].type == FLOAT32:
                    _call_instead(
                        function, node, functions[node.op].signature.name
                    )
        library.function.extend(functions.values())

    _edit(folder, change)


def _edit(folder, change):
    from tensorflow.core.protobuf import saved_model_pb2

    file = Path(folder, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved.meta_graphs:
        change(meta_graph.graph_def.library)
    file.write_bytes(saved.SerializeToString())


def _call_instead(function, node, name):
    """Turns a node of one input into a call, and redirects its consumers."""
    # A call's output has another name than the operation's, so every input
    # and every returned value that refers to it must change as well.
    node.op = "PartitionedCall"
    del node.attr["T"]
    node.attr["Tin"].list.type.append(FLOAT32)
    node.attr["Tout"].list.type.append(FLOAT32)
    node.attr["f"].func.name = name
    old, new = f"{node.name}:y:0", f"{node.name}:output:0"
    for other in function.node_def:
        other.input[:] = [new if one == old else one for one in other.input]
    for key, value in function.ret.items():
        if value == old:
            function.ret[key] = new


def erfc(x):
    """`1 - erf(x)`, within 1e-6.

    Args:
        x: float32 tensor of any shape.

    Returns:
        float32 tensor of the same shape.
    """
    import tensorflow as tf

    tail = _tail(tf.abs(x))
    # Without a condition: 1 on the left, 0 on the right.
    left = tf.cast(x < 0.0, x.dtype)
    return 2.0 * left + (1.0 - 2.0 * left) * tail


def erf(x):
    """The error function, within 1e-6.

    Args:
        x: float32 tensor of any shape.

    Returns:
        float32 tensor of the same shape.
    """
    import tensorflow as tf

    return tf.sign(x) * (1.0 - _tail(tf.abs(x)))


def _tail(x):
    """`erfc(x)` for `x >= 0`."""
    import tensorflow as tf

    t = 1.0 / (1.0 + INNER * x)
    total = tf.zeros_like(x)
    for coefficient in reversed(POLYNOMIAL):
        total = (total + coefficient) * t
    return total * tf.exp(-x * x)


#: Operations that TFLite lacks, to functions that replace them. The converter
#: maps TensorFlow's exact GELU to an operation of TFLite where it recognizes
#: the pattern; an error function outside of it remains.
REPLACEMENTS = {"Erf": erf, "Erfc": erfc}

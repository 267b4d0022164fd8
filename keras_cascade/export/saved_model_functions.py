"""Changes to the functions of a SavedModel, before it is converted."""

from pathlib import Path

#: Set on a function that must be compiled as a whole: no converter can look
#: into it. Keras does so for convolutions of several groups.
FORCED = "_XlaMustCompile"
#: The number of this type in a graph (`types.proto`, `DT_FLOAT`).
FLOAT32 = 1


def allow_inlining(folder):
    """Lets converters look into every function of a SavedModel.

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
    """Puts functions in the places of operations of one input.

    Operations of other types than float32 are left alone.

    Args:
        folder: path of the SavedModel. It is changed.
        replacements: dict of an operation's name to a function from a float32
            tensor to one of the same shape.
    """
    import tensorflow as tf

    made = {
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
                if node.op in made and node.attr["T"].type == FLOAT32:
                    _call_instead(function, node, made[node.op].signature.name)
        library.function.extend(made.values())

    _edit(folder, change)


def _edit(folder, change):
    from tensorflow.core.protobuf import saved_model_pb2

    file = Path(folder, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved.meta_graphs:
        change(meta_graph.graph_def.library)
    file.write_bytes(saved.SerializeToString())


def _call_instead(function, node, name):
    """Makes a node of one input a call, and tells all who use its output."""
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

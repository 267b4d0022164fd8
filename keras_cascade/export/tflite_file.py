"""TFLite files as flatbuffers: two linked into one, and their operations."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from keras_cascade.errors import ExportError
from keras_cascade.export.signature import ENDPOINT

#: Weights must start at multiples of this in the file (the schema's
#: `force_align`, which the generated Python code does not keep).
ALIGNMENT = 16
#: Begins the names of tensors of a second file that is linked to a first.
GATE_PREFIX = b"gate/"
#: Name of each built-in operation by its code.
OPERATION_NAMES = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int)
}


def link(first: bytes, second: bytes) -> bytes:
    """Links two files into one; `second` runs on the outputs of `first`.

    The operations and weights of both stay as they are. Inputs are those of
    `first`, outputs those of `second`.

    Args:
        first: TFLite bytes with the signature `serving_default`.
        second: the same, of one subgraph, without a loop or a branch; its
            inputs have the names and types of outputs of `first`.

    Returns:
        TFLite bytes with the signature `serving_default`.
    """
    model, added = read(first), read(second)
    signature, joining = signature_of(model), signature_of(added)
    if len(added.subgraphs) != 1:
        raise ExportError(
            "The gate cannot be appended to the student's file. Expected: one "
            f"subgraph. Received: {len(added.subgraphs)}. Write its `score` "
            "without loops and conditions."
        )
    graph = model.subgraphs[signature.subgraphIndex]
    appended = added.subgraphs[0]
    # Tensors are numbered per subgraph: those of `second` get new numbers,
    # and its inputs are the tensors that `first` puts out.
    index = _shared_tensors(graph, signature, appended, joining)
    index[-1] = -1  # an optional input that is left out
    for number, tensor in enumerate(appended.tensors):
        if number not in index:
            index[number] = len(graph.tensors)
            # Buffer 0 is empty in every file.
            tensor.buffer += len(model.buffers) if tensor.buffer else 0
            tensor.name = GATE_PREFIX + (tensor.name or b"")
            graph.tensors.append(tensor)
    for operator in appended.operators:
        operator.opcodeIndex += len(model.operatorCodes)
        operator.inputs = [index[number] for number in operator.inputs]
        operator.outputs = [index[number] for number in operator.outputs]
        graph.operators.append(operator)
    model.buffers += added.buffers
    model.operatorCodes += added.operatorCodes
    graph.outputs = [index[number] for number in appended.outputs]
    for output in joining.outputs:
        output.tensorIndex = index[output.tensorIndex]
    signature.outputs = joining.outputs
    return write(model)


def with_sizes(content: bytes, rows: dict) -> bytes:
    """Gives free sizes of the inputs a value to begin with.

    They stay free. The converter writes 1 for each, and an interpreter that
    prepares the file finds that a kernel of 5 by 5 is larger than the image.

    Args:
        content: TFLite bytes with the signature `serving_default`.
        rows: dict of input name to the shape of one example.

    Returns:
        TFLite bytes.
    """
    model = read(content)
    signature = signature_of(model)
    graph = model.subgraphs[signature.subgraphIndex]
    for one in signature.inputs:
        shape = rows[one.name.decode()]
        graph.tensors[one.tensorIndex].shape = [1, *map(int, shape)]
    return write(model)


def operations(content: bytes) -> tuple[list[str], list[str]]:
    """Operations of a TFLite file, by name.

    Args:
        content: bytes of the file.

    Returns:
        `(built in, others)`, two sorted lists of str. Others are custom
        operations and those of TensorFlow (`Flex...`).
    """
    model = schema.Model.GetRootAs(content, 0)
    built_in, others = set(), set()
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        # Old files have the code in a byte, which newer ones fill up.
        value = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if value == schema.BuiltinOperator.CUSTOM:
            others.add(code.CustomCode().decode())
        else:
            built_in.add(OPERATION_NAMES[value])
    return sorted(built_in), sorted(others)


def code_of(model: schema.ModelT, operator: schema.OperatorT) -> int:
    """Built-in code of an operation."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files have the code in a byte, which newer ones fill up.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def operation_of(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Name of an operation in a file, such as `"CONV_2D"`."""
    value = code_of(model, operator)
    if value == schema.BuiltinOperator.CUSTOM:
        code = model.operatorCodes[operator.opcodeIndex]
        return code.customCode.decode()
    return OPERATION_NAMES[value]


def read(content: bytes) -> schema.ModelT:
    """Reads a file's flatbuffer as objects."""
    return schema.ModelT.InitFromPackedBuf(bytes(content), 0)


def write(model: schema.ModelT) -> bytes:
    """Writes a file, its weights where an interpreter may map them."""
    builder = _AlignedBuilder(len(model.buffers) * 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def signature_of(model: schema.ModelT) -> schema.SignatureDefT:
    """The signature `serving_default` of a file.

    Raises:
        ExportError: it has none.
    """
    for signature in model.signatureDefs:
        if signature.signatureKey == ENDPOINT.encode():
            return signature
    raise ExportError(
        f"Expected a TFLite file with the signature '{ENDPOINT}'. Received: "
        f"{[s.signatureKey for s in model.signatureDefs]}."
    )


def _shared_tensors(graph, signature, appended, joining):
    """Dict of the second part's input tensors to the first's outputs."""
    outputs = {one.name: one.tensorIndex for one in signature.outputs}
    index = {}
    for one in joining.inputs:
        if one.name not in outputs:
            raise ExportError(
                f"Expected the student's file to have an output {one.name!r}. "
                f"Received: {sorted(outputs)}."
            )
        output = graph.tensors[outputs[one.name]]
        expected = appended.tensors[one.tensorIndex]
        if output.type != expected.type:
            raise ExportError(
                f"Expected the student's output {one.name!r} to have TFLite's "
                f"tensor type {expected.type}. Received: {output.type}."
            )
        index[one.tensorIndex] = outputs[one.name]
    return index


class _AlignedBuilder(flatbuffers.Builder):
    """Starts every vector of bytes where an interpreter may map it."""

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        if elemSize == 1:
            alignment = ALIGNMENT
        return super().StartVector(elemSize, numElems, alignment)

"""Which operations a TFLite file asks its interpreter for."""

from ai_edge_litert import schema_py_generated as schema

_BUILTIN = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int)
}


def operations(content):
    """Names of the operations of a TFLite file.

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
            built_in.add(_BUILTIN[value])
    return sorted(built_in), sorted(others)

"""Representation of an object by its constructor's arguments."""

import inspect


def constructor_repr(instance: object) -> str:
    """Returns `ClassName(arguments)`, without arguments at their default.

    Args:
        instance: object with an attribute for each constructor argument.
    """
    arguments = []
    # Of `__init__`: Keras's layers have a `__new__` that takes anything.
    parameters = inspect.signature(type(instance).__init__).parameters
    for name, parameter in list(parameters.items())[1:]:
        if not hasattr(instance, name):  # such as `**kwargs`
            continue
        value = getattr(instance, name)
        if parameter.default is inspect.Parameter.empty:
            arguments.append(repr(value))
        elif value != parameter.default:
            arguments.append(f"{name}={value!r}")
    return f"{type(instance).__name__}({', '.join(arguments)})"

"""What the public API consists of, for the tests that walk all of it."""

import importlib
import inspect
import types

#: Every module whose `__all__` is public.
PACKAGES = (
    "keras_cascade",
    "keras_cascade.bundle",
    "keras_cascade.calibration",
    "keras_cascade.callbacks",
    "keras_cascade.datasets",
    "keras_cascade.distillation",
    "keras_cascade.errors",
    "keras_cascade.evaluation",
    "keras_cascade.export",
    "keras_cascade.gates",
    "keras_cascade.models",
    "keras_cascade.runtime",
    "keras_cascade.serving",
    "keras_cascade.teacher_logits",
    "keras_cascade.teachers",
    "keras_cascade.text",
)


def public_objects():
    """Yields every public class and function once, with its full name."""
    seen = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, (types.ModuleType, str)) or id(value) in seen:
                continue
            seen.add(id(value))
            yield f"{package}.{name}", value


def public_callables():
    """Yields every public function, method, constructor and property getter.

    Yields:
        `(name, function, class or None)`; the class is the one that defines
        the method, which may be a base class of the public one.
    """
    seen = set()
    for name, value in public_objects():
        if not inspect.isclass(value):
            yield name.removeprefix("keras_cascade."), value, None
            continue
        for cls, method, function in _own_functions(value):
            if id(function) not in seen:
                seen.add(id(function))
                yield f"{cls.__name__}.{method}", function, cls


def parameters(function):
    """Parameters of a function, without `self` and `cls`."""
    every = inspect.signature(function).parameters.values()
    return [one for one in every if one.name not in ("self", "cls")]


def _own_functions(cls):
    methods = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("keras_cascade"):
            methods.update(
                {name: (base, value) for name, value in vars(base).items()}
            )
    for name, (base, value) in methods.items():
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if inspect.isfunction(value):
            yield base, name, value

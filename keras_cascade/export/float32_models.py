"""Models of lower or mixed precision, computed in float32."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

FLOAT32 = "float32"
#: Precisions that a file does not compute in.
OTHERS = ("float16", "bfloat16", "float64")


@contextlib.contextmanager
def in_float32(*models: Any) -> Iterator[None]:
    """Context in which models compute in float32, with their own weights.

    A file on a device computes in float32, or from float32 weights in fewer
    bits. Models that were trained under `mixed_float16` or `mixed_bfloat16`
    have such weights, and answer almost alike in float32; weights in float16,
    bfloat16 or float64 are cast where they are used. What is converted and
    what it is compared with must be computed in the same way, so a whole
    export runs in this context. Afterwards every layer has its own policy
    again.

    Args:
        *models: `keras.Model`s; inner models and layers are included. Layers
            that compute in float32 already, or in no floats, are not changed.
    """
    changed = []
    try:
        for layer in _layers(models):
            policy = _policy(layer)
            if {policy.compute_dtype, policy.variable_dtype} & set(OTHERS):
                shared = layer.dtype_policy
                known = _in_map(layer) and layer.path in shared
                changed.append((layer, shared, policy, known))
                layer.dtype_policy = _in_float32(policy)
        yield
    finally:
        for layer, shared, policy, known in reversed(changed):
            if not _in_map(layer):
                layer.dtype_policy = shared
                continue
            # Setting a policy adds an entry to a map of many layers.
            layer.dtype_policy = policy
            if not known:
                del shared[layer.path]


class _ComputingInFloat32(keras.DTypePolicy):
    """Policy of a layer whose variables have another type than float32."""

    def __init__(self, variable_dtype: str):
        super().__init__(FLOAT32)
        self._variables = variable_dtype

    @property
    def variable_dtype(self):
        return self._variables


def _layers(models):
    for model in models:
        if hasattr(model, "_flatten_layers"):
            yield from model._flatten_layers()


def _in_map(layer):
    """Returns whether a layer has its policy from a map, by its path."""
    policy = layer.dtype_policy
    return isinstance(policy, keras.dtype_policies.DTypePolicyMap) and bool(
        layer.path
    )


def _policy(layer):
    policy = layer.dtype_policy
    return policy[layer.path] if _in_map(layer) else policy


def _in_float32(policy):
    if policy.quantization_mode is not None:
        return f"{policy.name.partition('_from_')[0]}_from_{FLOAT32}"
    if policy.variable_dtype == FLOAT32:
        return keras.DTypePolicy(FLOAT32)
    return _ComputingInFloat32(policy.variable_dtype)

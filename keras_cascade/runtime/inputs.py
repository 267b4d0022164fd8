"""Checks inputs against a bundle's manifest, before any model sees them."""

import numpy as np

from keras_cascade.runtime.text_inputs import TEXT, text_array


def prepare_inputs(x, specs, allow_single=True):
    """Brings inputs into the form that the models take.

    Args:
        x: array, or dict of input name to array; one example or a batch.
            Inputs of text take a string, or a list or array of strings.
        specs: list of `{"name", "shape", "dtype"}` with the batch first, as
            in the manifest.
        allow_single: bool. Takes one example without a batch axis as a batch
            of one. Defaults to `True`.

    Returns:
        Dict of input name to array, each with a batch axis. Text is an array
        of dtype `object` that holds `str`.

    Raises:
        ValueError: names, shapes, types or values do not fit.
    """
    names = [spec["name"] for spec in specs]
    if not isinstance(x, dict):
        if len(names) > 1:
            raise ValueError(
                f"Expected a dict with the inputs {names}. Received: "
                f"{type(x).__name__}."
            )
        x = {names[0]: x}
    if set(x) != set(names):
        raise ValueError(
            f"Expected the inputs {names}. Received: {list(x)[:10]}."
        )
    inputs = {
        s["name"]: _prepare_one(x[s["name"]], s, allow_single) for s in specs
    }
    rows = {name: len(array) for name, array in inputs.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(
            "Expected every input to have the same number of rows. "
            f"Received: {rows}."
        )
    if not rows[names[0]]:
        raise ValueError("Expected at least one row. Received none.")
    return inputs


def _prepare_one(values, spec, allow_single):
    if spec["dtype"] == TEXT:
        return _prepare_text(values, spec, allow_single)
    name, dtype = spec["name"], np.dtype(spec["dtype"])
    try:
        given = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"Expected input '{name}' to be an array of {dtype}. Received "
            "rows of different lengths."
        ) from None
    if given.dtype.kind not in "biuf" or (
        dtype.kind in "iu" and given.dtype.kind == "f"
    ):
        raise ValueError(
            f"Expected input '{name}' to hold {dtype}. Received: {given.dtype}."
        )
    seen = spec.get("range")
    pixels = given.dtype.kind in "iu" and dtype.kind == "f" and given.size
    if pixels and seen is not None and seen[1] <= 1 < given.max():
        raise ValueError(
            f"Expected input '{name}' in the range {seen} that the model was "
            f"calibrated on. Received integers up to {given.max()}. Divide "
            "pixel values by 255."
        )
    if allow_single and given.ndim == len(spec["shape"]) - 1:
        given = given[None]
    _check_shape(given, spec)
    with np.errstate(over="ignore"):
        array = given.astype(dtype)
    if dtype.kind in "iu" and (array != given).any():
        raise ValueError(
            f"Expected input '{name}' to fit into {dtype}. Received values "
            f"from {given.min()} to {given.max()}."
        )
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"Expected finite values in input '{name}'. Received NaN or "
            "infinity."
        )
    return array


def _prepare_text(values, spec, allow_single):
    texts = text_array(
        values,
        f"input '{spec['name']}'",
        len(spec["shape"]) if allow_single else None,
    )
    _check_shape(texts, spec)
    return texts


def _check_shape(array, spec):
    shape = spec["shape"]
    fits = array.ndim == len(shape) and all(
        wanted is None or wanted == found
        for wanted, found in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        wanted = ["batch", *shape[1:]]
        raise ValueError(
            f"Expected input '{spec['name']}' of shape {wanted}. Received: "
            f"{list(array.shape)}."
        )

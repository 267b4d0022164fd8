"""Data of bundles whose task is not one class per example."""

import numpy as np

from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.export.bundle_task import label_check

NPZ = "npz:"
BATCH_SIZE = 128


def task_examples(bundle, spec, labelled=True):
    """`LabelledData` of all rows of an .npz file.

    Args:
        bundle: `Bundle` with a task.
        spec: str, data spec: `npz:PATH` of a file with `x`, or an array for
            each input by its name, and the labels `y`.
        labelled: bool. Requires labels. Defaults to `True`.

    Raises:
        ValueError: another data spec, or a file without these arrays.
    """
    task = bundle.manifest["task"]["class"]
    names = [one["name"] for one in bundle.inputs]
    if not spec.startswith(NPZ):
        raise ValueError(
            f"Expected --data {NPZ}FILE for a bundle of the task {task}, whose "
            f"labels are arrays. Received: '{spec}', which has one class per "
            "example."
        )
    arrays = read_numpy(spec.removeprefix(NPZ), archive=True)
    if len(names) == 1 and "x" in arrays:
        arrays[names[0]] = arrays["x"]
    missing = set(names) - set(arrays)
    if labelled and "y" not in arrays:
        missing.add("y")
    if missing:
        raise ValueError(
            f"Expected the arrays 'x' (or {names}) and 'y' in '{spec}'. "
            f"Received: {sorted(arrays)}."
        )
    inputs = {name: arrays[name] for name in names}
    x = inputs if len(names) > 1 else inputs[names[0]]
    if not labelled:
        return LabelledData(x, batch_size=BATCH_SIZE)
    y = np.asarray(arrays["y"])
    label_check(bundle)(y)
    return LabelledData(x, y, batch_size=BATCH_SIZE)

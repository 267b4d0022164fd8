"""Files that the parent and the child process exchange."""

import json

import numpy as np

from keras_cascade.utils.numpy_top_k import TopKRows

JOB_FILE = "job.json"
WEIGHTS_FILE = "weights.npz"
REFERENCE_FILE = "reference.npz"
EXAMPLES_FILE = "examples.npz"
RESULTS_FILE = "results.json"
STUDENT_FOLDER = "student"
#: Text of an `ExportError` that the child raised, and its exit status then.
ERROR_FILE = "error.txt"
ERROR_STATUS = 3
#: The same of a `StudentRefusedError`.
REFUSED_STATUS = 4


def write_json(path, value):
    """Writes a JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path):
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_job(folder, job, graph):
    """Writes the job's options, the student and its weights.

    Args:
        folder: `Path`.
        job: JSON-compatible dict.
        graph: `StudentGraph`. Its layers are added to the job, with the
            number of their weights.
    """
    steps = [
        {**step.describe(), "weights": len(step.weights)}
        for step in graph.steps
    ]
    student = {
        "inputs": graph.inputs,
        "steps": steps,
        "output": graph.output,
        "features": graph.features,
    }
    write_json(folder / JOB_FILE, {**job, **student})
    weights = {
        f"{number}/{index}": array
        for number, step in enumerate(graph.steps)
        for index, array in enumerate(step.weights)
    }
    np.savez(folder / WEIGHTS_FILE, **weights)
    np.savez(folder / REFERENCE_FILE, **graph.values)


def write_examples(
    folder, graph, inputs, labels, teacher_logits, sample_weight
):
    """Writes the training examples.

    Args:
        folder: `Path`.
        graph: `StudentGraph`.
        inputs: array or dict of arrays.
        labels: array `(examples,)`.
        teacher_logits: array `(examples, classes)`, or `TopKRows` of it.
        sample_weight: array `(examples,)`, or `None`.
    """
    named = graph.arrays(inputs)
    arrays = {
        f"input/{number}": named[name]
        for number, name in enumerate(graph.inputs)
    }
    arrays["labels"] = labels
    if isinstance(teacher_logits, TopKRows):
        arrays |= {
            f"teacher/{name}": array
            for name, array in teacher_logits.arrays.items()
        }
        arrays["teacher/size"] = np.array(teacher_logits.shape[1])
    else:
        arrays["teacher_logits"] = teacher_logits
    if sample_weight is not None:
        arrays["sample_weight"] = sample_weight
    np.savez(folder / EXAMPLES_FILE, **arrays)


def read_weights(folder, job):
    """Dict of step name to list of weight arrays."""
    with np.load(folder / WEIGHTS_FILE) as arrays:
        return {
            step["name"]: [
                arrays[f"{number}/{index}"] for index in range(step["weights"])
            ]
            for number, step in enumerate(job["steps"])
        }


def read_reference(folder):
    """Dict of name to array, of example inputs and layers' outputs."""
    with np.load(folder / REFERENCE_FILE) as arrays:
        return dict(arrays)


def read_examples(folder, inputs):
    """Dict of the arguments of `Examples`.

    Args:
        folder: `Path`.
        inputs: int, number of inputs.
    """
    with np.load(folder / EXAMPLES_FILE) as arrays:
        return {
            "inputs": [arrays[f"input/{number}"] for number in range(inputs)],
            "labels": arrays["labels"],
            "teacher_logits": _teacher_logits(arrays),
            "sample_weight": arrays.get("sample_weight"),
        }


def _teacher_logits(arrays):
    """Array `(examples, classes)`, or `TopKRows` of it."""
    if "teacher_logits" in arrays:
        return arrays["teacher_logits"]
    names = ("logits", "classes", "rest")
    return TopKRows(
        {name: arrays[f"teacher/{name}"] for name in names},
        int(arrays["teacher/size"]),
    )

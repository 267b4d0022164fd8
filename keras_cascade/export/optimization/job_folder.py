"""The folder through which this process and its child talk."""

import json

import numpy as np

JOB_FILE = "job.json"
WEIGHTS_FILE = "weights.npz"
REFERENCE_FILE = "reference.npz"
EXAMPLES_FILE = "examples.npz"
RESULTS_FILE = "results.json"
STUDENT_FOLDER = "student"


def write_json(path, value):
    """Writes a JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path):
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_job(folder, job, graph):
    """Writes what to do, and the student to do it to.

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
        f"{number}/{place}": array
        for number, step in enumerate(graph.steps)
        for place, array in enumerate(step.weights)
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
        teacher_logits: array `(examples, classes)`.
        sample_weight: array `(examples,)`, or `None`.
    """
    given = graph.arrays(inputs)
    arrays = {
        f"input/{number}": given[name]
        for number, name in enumerate(graph.inputs)
    }
    arrays |= {"labels": labels, "teacher_logits": teacher_logits}
    if sample_weight is not None:
        arrays["sample_weight"] = sample_weight
    np.savez(folder / EXAMPLES_FILE, **arrays)


def read_weights(folder, job):
    """Dict of step name to list of arrays."""
    with np.load(folder / WEIGHTS_FILE) as arrays:
        return {
            step["name"]: [
                arrays[f"{number}/{place}"] for place in range(step["weights"])
            ]
            for number, step in enumerate(job["steps"])
        }


def read_reference(folder):
    """Dict of name to array, of inputs and of what layers answer to them."""
    with np.load(folder / REFERENCE_FILE) as arrays:
        return dict(arrays)


def read_examples(folder, inputs):
    """The arguments of `Examples`.

    Args:
        folder: `Path`.
        inputs: int, number of inputs.
    """
    with np.load(folder / EXAMPLES_FILE) as arrays:
        return {
            "inputs": [arrays[f"input/{number}"] for number in range(inputs)],
            "labels": arrays["labels"],
            "teacher_logits": arrays["teacher_logits"],
            "sample_weight": arrays.get("sample_weight"),
        }

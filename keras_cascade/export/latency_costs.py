"""Costs of each model in milliseconds, timed in its deployed form."""

import os
import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.datasets.batches import take_rows
from keras_cascade.evaluation.costs import Costs
from keras_cascade.export.backend import check_backend
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.external_teachers import is_external, timed_teacher
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.student_interpreter import (
    StudentInterpreter,
    open_student,
)
from keras_cascade.runtime.teachers.local_teacher import local_teacher
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.tokenized import teacher_with_tokenizer
from keras_cascade.text.text_columns import as_text_arrays
from keras_cascade.utils.progress import progress_shown

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

WARM_UP = 20


def costs_from_latency(
    cascade_or_bundle: "Cascade | Bundle | str | os.PathLike",
    inputs: Any,
    network: float = 0.0,
    runs: int = 200,
    num_threads: int = 1,
    verbose: bool | None = None,
) -> Costs:
    """`Costs` in milliseconds, timed on this machine.

    The student runs with its gate in LiteRT, the teacher as a SavedModel in
    TensorFlow, one example at a time, in turn, after a warm-up. Set them with
    `cascade.costs = costs_from_latency(cascade, x)` before `calibrate`.

    Args:
        cascade_or_bundle: `Cascade`, which is converted for the purpose; or
            `keras_cascade.bundle.Bundle`, or the path of one.
        inputs: example inputs, batch first; the first is timed.
        network: float >= 0, milliseconds that reaching the teacher adds.
            Defaults to `0.0`.
        runs: int >= 1, timed passes of each model. Defaults to `200`.
        num_threads: int, of the student's interpreter. Defaults to `1`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.

    Returns:
        `Costs` with the medians, and the 99th percentiles beside them.

    Raises:
        RuntimeError: a cascade is given, and Keras does not run on
            TensorFlow.

    Example:

    >>> import keras, numpy as np
    >>> import keras_cascade as kc
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> cascade = kc.Cascade(teacher, student)
    >>> x = np.ones((1, 4), "float32")
    >>> costs = kc.export.costs_from_latency(cascade, x, network=20.0, runs=5)
    >>> costs.unit, costs.network, costs.student_p99 >= costs.student
    ('ms', 20.0, True)
    """
    if not isinstance(cascade_or_bundle, (Bundle, str, os.PathLike)):
        check_backend()
    if runs < 1:
        raise ValueError(f"Expected `runs` of at least 1. Received: {runs!r}.")
    one = take_rows(as_text_arrays(inputs), slice(0, 1))
    if isinstance(cascade_or_bundle, (Bundle, str, os.PathLike)):
        bundle = cascade_or_bundle
        if not isinstance(bundle, Bundle):
            bundle = Bundle.load(bundle)
        teacher = local_teacher(bundle)
        return _timed(
            open_student(bundle, num_threads),
            teacher_with_tokenizer(teacher, bundle),
            prepare_inputs(one, bundle.inputs), network, runs, num_threads,
        )  # fmt: skip
    job = ExportJob(cascade_or_bundle, example_inputs=one)
    with (
        progress_shown(verbose),
        job.in_float32(),
        tempfile.TemporaryDirectory() as folder,
    ):
        teacher_folder = Path(folder, "1")
        threshold = cascade_or_bundle.gate.decision_threshold
        student_file = job.student_artifact().write(
            Path(folder, "student.tflite"), threshold
        )
        if is_external(cascade_or_bundle):
            teacher = timed_teacher(job, teacher_folder)
        else:
            job.teacher.write_saved_model(teacher_folder)
            teacher = job.teacher.as_served(SavedModelTeacher(teacher_folder))
        return _timed(
            job.student.as_served(
                StudentInterpreter(student_file, num_threads)
            ),
            teacher,
            job.signature.named(one), network, runs, num_threads,
        )  # fmt: skip


def _timed(student, teacher, named, network, runs, num_threads):
    passes = {
        "student": lambda: student.run(named),
        "teacher": lambda: teacher.logits(named),
    }
    for _ in range(WARM_UP):
        for run in passes.values():
            run()
    times = {name: np.empty(runs) for name in passes}
    for number in range(runs):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            times[name][number] = 1000 * (time.perf_counter() - start)
    p99 = {name: float(np.quantile(t, 0.99)) for name, t in times.items()}
    median = {name: float(np.median(t)) for name, t in times.items()}
    return Costs(
        student=median["student"],
        teacher=median["teacher"],
        unit="ms",
        how_measured=(
            f"median of {runs} passes of one example after {WARM_UP} to warm "
            f"up, on {platform.machine()} with {os.cpu_count()} cores: "
            f"student in LiteRT ({num_threads} thread) "
            f"{median['student']:.3f} ms, 99 % within {p99['student']:.3f}; "
            f"teacher as SavedModel {median['teacher']:.3f} ms, 99 % within "
            f"{p99['teacher']:.3f}; network {network:g} ms, as given"
        ),
        network=float(network),
        student_p99=p99["student"],
        teacher_p99=p99["teacher"],
    )

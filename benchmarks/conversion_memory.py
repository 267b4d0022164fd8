"""Memory of a process that converts students to TFLite again and again.

    python -m benchmarks.conversion_memory --json [--quick]

A convnet of 195,058 parameters is written as a SavedModel once and converted
again and again, by the child process that exports use (`child`) and, as before
there was one, in this process (`in_process`). `*_growth_mib`: resident memory
of this process after the last conversion less that after the second, by which
time allocators and caches have filled; `child_own_growth_mib`: the same of the
child. `*_seconds`: median of a conversion. `child_start_seconds`: from the
start of a child to its first answer, less a later conversion.

Then whole exports, by the child: `export_growth_mib`, with all that Keras and
TensorFlow keep of a traced function, and `export_seconds`.
"""

import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import psutil

import keras_cascade as kc
from benchmarks.export_students import convnet_student
from benchmarks.harness import options, seconds, show
from keras_cascade.export import converter_child
from keras_cascade.export.converter_process import CONVERTER, ConverterProcess
from keras_cascade.export.converter_settings import ConverterSettings
from keras_cascade.export.signature import Signature

CONVERSIONS, QUICK_CONVERSIONS = 20, 4
SETTLED = 2  # conversions before the first that counts
MIB = 1 << 20


class InProcess(ConverterProcess):
    """Converts in the calling process, as exports did before."""

    def _run(self, folder):
        converter_child.answer(folder)


def resident(process_id=None):
    """Resident memory of a process in MiB; by default of this one."""
    return psutil.Process(process_id).memory_info().rss / MIB


def repeated(action, count, processes):
    """Runs an action again and again.

    Args:
        action: function without arguments.
        count: int.
        processes: function that returns the ids of processes.

    Returns:
        `(growth, times)`: list of the growth of each process in MiB, and list
        of seconds.
    """
    times = [seconds(action) for _ in range(SETTLED)]
    before = [resident(one) for one in processes()]
    times += [seconds(action) for _ in range(count - SETTLED)]
    after = [resident(one) for one in processes()]
    return [b - a for a, b in zip(before, after, strict=True)], times


def measure(quick):
    """Measures all of it; dict of the keys above."""
    count = QUICK_CONVERSIONS if quick else CONVERSIONS
    x = np.random.default_rng(0).normal(size=(64, 28, 28, 1)).astype("float32")
    student = convnet_student()
    with tempfile.TemporaryDirectory() as folder:
        saved = str(Path(folder, "saved"))
        Signature(x).write_saved_model(
            saved, student, lambda y: {"y": y}, [student]
        )
        settings = ConverterSettings()
        (growth, own), times = repeated(
            lambda: CONVERTER.convert(saved, settings),
            count,
            lambda: [None, CONVERTER.process_id],
        )
        converter = InProcess()
        (in_process,), in_process_times = repeated(
            lambda: converter.convert(saved, settings), count, lambda: [None]
        )
        later = statistics.median(times[1:])
        exports = _exports(student, x, Path(folder), count)
    return {
        "conversions": count,
        "child_growth_mib": growth,
        "child_own_growth_mib": own,
        "in_process_growth_mib": in_process,
        "child_seconds": later,
        "in_process_seconds": statistics.median(in_process_times[1:]),
        "child_start_seconds": times[0] - later,
        **exports,
    }


def _exports(student, x, folder, count):
    """Growth and duration of whole exports."""
    teacher = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    cascade = kc.Cascade(teacher, student)
    data = (x, np.arange(len(x)) % 10)
    (growth,), times = repeated(
        lambda: cascade.export(
            folder / "s.tflite", format="litert", calibration_data=data
        ),
        count,
        lambda: [None],
    )
    return {
        "export_growth_mib": growth,
        "export_seconds": statistics.median(times[1:]),
    }


def main():
    """Measures and prints."""
    chosen = options(__doc__)
    start = time.perf_counter()
    result = measure(chosen.quick)
    show({**result, "seconds": time.perf_counter() - start}, chosen.json)


if __name__ == "__main__":
    main()

"""Program of the process that runs TensorFlow's SavedModel converter.

The converter leaks memory with each conversion and is no longer developed
(tensorflow 122598), so it runs in a process that can be thrown away. A line
on standard input names a folder with a request as JSON and the files that
belong to it; the answer is an empty line on standard output, once the folder
holds the result or an error. TensorFlow is imported before the first request
comes, Keras and the rest of this package never: `ConverterProcess` runs this
file by its path.
"""

import json
import os
import queue
import sys
from pathlib import Path

import numpy as np

from keras_cascade.utils.child_process import requests_of_parent

REQUEST_FILE = "request.json"
#: What a quantization measures activations with: `ROW/INPUT`, by number.
REPRESENTATIVE_FILE = "representative.npz"
CONTENT_FILE = "content.tflite"
RESULT_FILE = "result.tflite"
ERROR_FILE = "error.json"
#: Exit status of a child that has answered whatever it was asked.
DONE = 0
#: Seconds without a request after which the process ends.
IDLE = 300
#: The process ends after so many requests, or (on Linux) when it has grown by
#: so many bytes since the first.
MOST_REQUESTS, MOST_GROWTH = 200, 1 << 30


def main():
    """Answers requests until there are no more, or enough."""
    requests = requests_of_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    _load_tensorflow()
    size = None
    for _ in range(MOST_REQUESTS):
        try:
            line = requests.get(timeout=IDLE)
        except queue.Empty:
            break
        answer(Path(json.loads(line)))
        os.write(answers, b"\n")
        size = size or _resident_bytes()
        if _resident_bytes() - size > MOST_GROWTH:
            break
    sys.stderr.flush()
    os._exit(DONE)  # nothing of TensorFlow's is worth taking down


def answer(folder: Path):
    """Runs the request in a folder, and writes its result or error there."""
    request = json.loads((folder / REQUEST_FILE).read_text("utf-8"))
    try:
        if "saved_model" in request:
            content = _converted(folder, request)
        else:
            content = _quantized(folder, request)
    # Whatever the converter raises is the parent's to explain.
    except Exception as error:
        _write_error(folder, "converter", error)
        return
    try:
        (folder / RESULT_FILE).write_bytes(content)
    except OSError as error:
        (folder / RESULT_FILE).unlink(missing_ok=True)
        _write_error(folder, "disk", error)


def _converted(folder, request):
    """Content of the TFLite file of a SavedModel."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(request["saved_model"])
    _configure(converter, folder, request)
    if request["calibrated_only"]:
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=lambda: iter(())
        )
        return debugger.calibrated_model
    return converter.convert()


def _configure(converter, folder, request):
    """Sets how a converter stores numbers, and which operations it may use."""
    import tensorflow as tf

    quantization = request["quantization"]
    # The default lets in operations that no current interpreter runs.
    operations = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization == "int8":
        # What has no 8-bit kernel stays in float.
        operations.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
        converter.representative_dataset = lambda: _representative(
            folder, request
        )
    converter.target_spec.supported_ops = operations
    if quantization == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]


def _representative(folder, request):
    """Yields dicts of input name to array."""
    with np.load(folder / REPRESENTATIVE_FILE) as arrays:
        for row in range(request["representative"]):
            yield {
                name: arrays[f"{row}/{number}"]
                for number, name in enumerate(request["inputs"])
            }


def _quantized(folder, request):
    """Content of a calibrated file with all but some operations in int8."""
    from tensorflow.lite.python.convert import mlir_quantize

    return mlir_quantize(
        (folder / CONTENT_FILE).read_bytes(),
        denylisted_nodes=request["in_float"],
    )


def _load_tensorflow():
    import tensorflow as tf

    # The parent may hold all of a GPU's memory; a converter needs none.
    tf.config.set_visible_devices([], "GPU")
    tf.lite.TFLiteConverter  # noqa: B018, loads it


def _write_error(folder, kind, error):
    text = json.dumps({"kind": kind, "text": str(error)})
    (folder / ERROR_FILE).write_text(text, "utf-8")


def _resident_bytes():
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()

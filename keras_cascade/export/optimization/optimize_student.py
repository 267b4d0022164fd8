"""Fine-tunes a student while compressing it, in a child process."""

import importlib.util
import inspect
import numbers
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.errors import ExportError
from keras_cascade.export.backend import check_backend
from keras_cascade.export.optimization.functional_config import (
    StudentRefusedError,
)
from keras_cascade.export.optimization.job_folder import (
    ERROR_FILE,
    ERROR_STATUS,
    REFUSED_STATUS,
    RESULTS_FILE,
    STUDENT_FOLDER,
    read_json,
    write_examples,
    write_job,
)
from keras_cascade.export.optimization.keras_quantized_student import (
    KerasQuantizedStudent,
    copied_student,
)
from keras_cascade.export.optimization.layer_substitutions import (
    fold_batch_norms,
)
from keras_cascade.export.optimization.optimized_student import (
    OptimizedStudent,
)
from keras_cascade.export.optimization.student_graph import StudentGraph
from keras_cascade.export.signature import Signature
from keras_cascade.gates import StudentWithGate
from keras_cascade.utils.child_process import (
    end_child,
    how_it_ended,
    last_lines,
    start_child,
)
from keras_cascade.utils.numpy_top_k import TopKRows
from keras_cascade.utils.progress import progress_shown, tell

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

CHILD = Path(__file__).with_name("child") / "__main__.py"
MODES = ("qat", "prune", "cluster", "prune+qat", "cluster+qat")
#: Options that are numbers.
NUMERIC = (
    "epochs",
    "batch_size",
    "learning_rate",
    "sparsity",
    "clusters",
    "seed",
)
#: Rows on which the rebuilt student is compared, layer by layer.
COMPARED = 8
#: Rounding adds up: 28 layers of a MobileNet were 1.1e-5 apart.
TOLERANCE = 1e-4
#: Of a student that computes in half precision; rebuilt, it is in float32.
HALF_TOLERANCE = 3e-2


def optimize_student(
    cascade: "Cascade",
    mode: str,
    inputs: Any,
    labels: npt.ArrayLike,
    teacher_logits: npt.ArrayLike | TopKRows,
    signature: Signature,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 5e-4,
    sparsity: float = 0.7,
    clusters: int = 16,
    seed: int = 0,
    sample_weight: npt.ArrayLike | None = None,
    verbose: bool | None = None,
) -> OptimizedStudent | KerasQuantizedStudent:
    """Fine-tunes a student with TensorFlow Model Optimization, or Keras 3.

    The student is rebuilt in Keras 2, in a child process, compared layer by
    layer, and trained on by the cascade's own distillation policy, loss and
    weights. The cascade and this process stay as they are.

    Layers of noise, such as `Dropout`, take part in the training. Layers that
    augment images (`RandomFlip` and Keras's others, and layers of the user's
    own that do nothing in inference) do not: it sees the examples as they
    are. What is shipped is what the student computes in inference.

    A student with a layer that cannot be rebuilt, such as an attention, is
    trained on by `"qat"` in Keras 3 itself, in this process: see
    `KerasQuantizedStudent` for what is simulated, and which ranges the file
    has. The other modes refuse it.

    Args:
        cascade: `Cascade` with a built student: Sequential or Functional, or
            with `"qat"` any that Keras can make again from its config.
        mode: `"qat"` (quantization-aware training, int8), `"prune"`,
            `"cluster"` (float32 weights that compress well), `"prune+qat"`
            or `"cluster+qat"`. Each stage of two trains for `epochs`.
        inputs: array or dict of arrays, the training examples, as the
            student takes them.
        labels: integer array `(examples,)`.
        teacher_logits: float array `(examples, classes)`, as
            `TeacherLogitsCache.logits(inputs)` returns it; or
            `keras_cascade.utils.numpy_top_k.TopKRows`, for many classes.
        signature: `keras_cascade.export.signature.Signature` of the file.
        epochs: int >= 1. Defaults to `5`.
        batch_size: int >= 1. Defaults to `32`.
        learning_rate: float > 0, of Adam at the start of each stage; it falls
            to zero along a cosine. Defaults to `5e-4`.
        sparsity: float in (0, 1), share of zeros in every pruned kernel.
            Defaults to `0.7`.
        clusters: int >= 2, distinct weights of every clustered kernel.
            Defaults to `16`.
        seed: int. The same seed gives the same file on the same machine.
            Defaults to `0`.
        sample_weight: float array `(examples,)`. Defaults to `None`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.

    Returns:
        `OptimizedStudent`, or `KerasQuantizedStudent`.

    Raises:
        ExportError: a layer that cannot be rebuilt or a student that TFMOT
            cannot take at all, by name; or what ended the child process.
        RuntimeError: Keras does not run on TensorFlow.
        ValueError: an argument that is not valid.
    """
    check_backend()
    numeric = {
        "epochs": epochs, "batch_size": batch_size,
        "learning_rate": learning_rate, "sparsity": sparsity,
        "clusters": clusters, "seed": seed,
    }  # fmt: skip
    _check_arguments(mode, numeric)
    _check_policy(cascade.distillation)
    cascade.gate.check_ready()
    labels, teacher_logits, weight = _checked_examples(
        inputs, labels, teacher_logits, sample_weight
    )
    with progress_shown(verbose):
        try:
            return _by_tfmot(
                cascade, mode, inputs, labels, teacher_logits, signature,
                numeric, weight,
            )  # fmt: skip
        except StudentRefusedError as error:
            if mode != "qat":
                raise
            tell(f"{mode}: training a copy of the student in Keras. {error}")
        options = ("epochs", "batch_size", "learning_rate", "seed")
        return KerasQuantizedStudent(
            StudentWithGate(
                cascade.student, cascade.gate, teacher_logits.shape[1]
            ),
            cascade.distillation,
            inputs,
            labels,
            teacher_logits,
            weight,
            signature,
            {name: numeric[name] for name in options},
        )


def _by_tfmot(
    cascade, mode, inputs, labels, teacher_logits, signature, numeric, weight
):
    """`OptimizedStudent`, as the child process trained it."""
    graph = _graph(cascade, inputs)
    if mode.startswith("cluster"):
        fold_batch_norms(graph)
    job = {
        **numeric,
        "mode": mode,
        "policy": keras.saving.serialize_keras_object(cascade.distillation),
        "tolerance": _tolerance(cascade.student),
        # Import path of a policy of the user's own.
        "path": [path for path in sys.path if path],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_job(folder, job, graph)
        write_examples(folder, graph, inputs, labels, teacher_logits, weight)
        tell(
            f"{mode}: training the student on, {numeric['epochs']} epochs a "
            f"stage on {len(labels):,} examples, in a process of its own."
        )
        run_child(folder)
        return OptimizedStudent(
            StudentWithGate(
                cascade.student, cascade.gate, teacher_logits.shape[1]
            ),
            mode,
            graph,
            _loaded(folder / STUDENT_FOLDER),
            signature,
            read_json(folder / RESULTS_FILE),
        )


def check_optimizable(
    cascade: "Cascade", mode: str, inputs: Any, options: dict
) -> None:
    """Raises what `optimize_student` would raise without any data.

    So that a mistake is found before a pass of the teacher over the data.

    Args:
        cascade: `Cascade` with a built student.
        mode: str.
        inputs: some examples, as the student takes them.
        options: dict, of `optimize_student`.

    Raises:
        ExportError: a layer that cannot be rebuilt, by name.
        ValueError: an option that is not valid.
    """
    known = (*NUMERIC, "verbose")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"Expected options of `optimization` out of {list(known)}. "
            f"Received: {unknown}."
        )
    defaults = inspect.signature(optimize_student).parameters
    _check_arguments(
        mode,
        {name: options.get(name, defaults[name].default) for name in NUMERIC},
    )
    _check_policy(cascade.distillation)
    try:
        _graph(cascade, inputs)
    except StudentRefusedError:
        if mode != "qat":
            raise
        copied_student(cascade.student, take_rows(inputs, slice(0, COMPARED)))


def _graph(cascade, inputs):
    """`StudentGraph` of the student.

    Raises:
        ExportError: a layer that cannot be rebuilt, by name; or packages are
            not installed.
    """
    graph = StudentGraph(
        cascade.student,
        take_rows(inputs, slice(0, COMPARED)),
        cascade.gate.student_layers,
    )
    _check_installed()
    return graph


def run_child(folder):
    """Runs the job in a folder in a child process, and waits for it.

    Args:
        folder: path that holds the job, and will hold the results.

    Raises:
        ExportError: that of the child, or the last lines of its log.
    """
    with (folder / "errors.txt").open("w+b") as log:
        process = start_child(
            CHILD,
            [str(folder)],
            stdout=log,
            stderr=log,
        )
        try:
            status = process.wait()
        finally:  # interrupted, or ended
            end_child(process)
        last = last_lines(log)
    if status in (ERROR_STATUS, REFUSED_STATUS):
        kind = StudentRefusedError if status == REFUSED_STATUS else ExportError
        raise kind((folder / ERROR_FILE).read_text(encoding="utf-8"))
    if status != 0:
        raise ExportError(
            "Optimizing the student failed: its process "
            f"{how_it_ended(status)}. Its last words:\n{last}"
        )


def _loaded(folder):
    import tensorflow as tf

    return tf.saved_model.load(str(folder))


def _tolerance(student):
    half = {"float16", "bfloat16"}
    computed = {layer.compute_dtype for layer in student.layers}
    return HALF_TOLERANCE if computed & half else TOLERANCE


def _check_arguments(mode, numeric):
    if mode not in MODES:
        raise ValueError(
            f"Expected `mode` to be one of {list(MODES)}. Received: {mode!r}."
        )
    minimum = {"epochs": 1, "batch_size": 1, "clusters": 2, "seed": 0}
    for name, least in minimum.items():
        value = numeric[name]
        if not (isinstance(value, numbers.Integral) and value >= least):
            raise ValueError(
                f"Expected `{name}` to be an integer >= {least}. Received: "
                f"{value!r}."
            )
        numeric[name] = int(value)
    for name, most in (("learning_rate", np.inf), ("sparsity", 1.0)):
        value = numeric[name]
        if not (isinstance(value, numbers.Real) and 0.0 < value < most):
            raise ValueError(
                f"Expected `{name}` to be a number between 0 and {most}. "
                f"Received: {value!r}."
            )
        numeric[name] = float(value)


def _check_policy(policy):
    if policy.teacher_layers or policy.student_layers:
        raise ValueError(
            "Optimization trains from cached logits. Expected: a distillation "
            "policy of logits and labels. Received: one that compares the "
            f"layers {[*policy.teacher_layers, *policy.student_layers]}. Set "
            "`cascade.distillation` to another before exporting."
        )


def _checked_examples(
    inputs: Any,
    labels: npt.ArrayLike,
    teacher_logits: npt.ArrayLike | TopKRows,
    sample_weight: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray | TopKRows, np.ndarray | None]:
    labels = np.asarray(labels).reshape(-1).astype("int32")
    if not isinstance(teacher_logits, TopKRows):
        teacher_logits = np.asarray(teacher_logits, dtype="float32")
    weight = sample_weight
    if weight is not None:
        weight = np.asarray(weight, dtype="float32").reshape(-1)
    lengths = [rows_of(inputs), len(labels), len(teacher_logits)]
    lengths += [] if weight is None else [len(weight)]
    if len(set(lengths)) > 1 or not lengths[0] or teacher_logits.ndim != 2:
        raise ValueError(
            "Expected as many labels, rows of teacher logits `(examples, "
            "classes)` and weights as training examples, and at least one. "
            f"Received lengths: {lengths}; teacher logits of shape "
            f"{teacher_logits.shape}."
        )
    classes = teacher_logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}. Received labels from "
            f"{labels.min()} to {labels.max()}."
        )
    return labels, teacher_logits, weight


def _check_installed():
    packages = ("tensorflow_model_optimization", "tf_keras")
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        raise ExportError(
            f"This quantization needs {' and '.join(missing)}, not installed "
            'here. Run `pip install "keras-cascade[optimize]"`.'
        )

"""Private names of Keras that this package relies on, and why.

A new version of Keras may drop any of them without notice, so the supported
versions are bounded in `setup.py`, and `tests/test_private_keras.py` checks
that each exists in the installed Keras and that no other is used.
"""

from typing import NamedTuple


class PrivateName(NamedTuple):
    """A private attribute, method or argument of Keras.

    Attributes:
        name: str.
        module: str, the module of Keras that defines it.
        reason: str.
    """

    name: str
    module: str
    reason: str


PRIVATE_NAMES = (
    PrivateName(
        "_get_function",
        "tensorflow.python.framework.ops",
        "The functions of a graph whose operations are counted: loops and "
        "branches. TensorFlow has no public way to them.",
    ),
    PrivateName(
        "_loss_tracker",
        "keras.src.trainers.trainer",
        "`update_metrics` weights the loss of an epoch by the size of each "
        "batch; a training step of one's own has to do so itself.",
    ),
    PrivateName(
        "_get_jax_state",
        "keras.src.backend.jax.trainer",
        "An error in the first batch must not lose the weights: Keras purges "
        "the variables before it and remembers their values only after it.",
    ),
    PrivateName(
        "_jax_state",
        "keras.src.backend.jax.trainer",
        "`jax_state_sync` restores the variables from it.",
    ),
    PrivateName(
        "_use_cached_eval_dataset",
        "keras.src.backend.tensorflow.trainer",
        "The validation inside `fit` calls `evaluate` with it; its data was "
        "checked when `fit` began.",
    ),
    PrivateName(
        "_flatten_layers",
        "keras.src.layers.layer",
        "Lists layers inside of layers, so that an export error can name the "
        "one it is about.",
    ),
    PrivateName(
        "_tracker",
        "keras.src.layers.layer",
        "A model that is replaced when its outputs are first seen keeps its "
        "position among the layers, by which weights are found in a file.",
    ),
    PrivateName(
        "_keras_history",
        "keras.src.ops.node",
        "Leads from a functional model's output to its last activation, "
        "before which the logits are read.",
    ),
    PrivateName(
        "_inbound_nodes",
        "keras.src.ops.node",
        "The call of a layer that an output came from, and its inputs.",
    ),
    PrivateName(
        "_output_mode",
        "keras.src.layers.preprocessing.text_vectorization",
        "Only a `TextVectorization` that makes token ids can be converted.",
    ),
    PrivateName(
        "_keras_mask",
        "keras.src.backend.common.masking",
        "A layer that receives a mask cannot be quantized while training.",
    ),
    PrivateName(
        "_save_model",
        "keras.src.callbacks.backup_and_restore",
        "`CrashSafeBackup` writes a backup beside the last one.",
    ),
    PrivateName(
        "_weights_path",
        "keras.src.callbacks.backup_and_restore",
        "Where `CrashSafeBackup` sends the weights.",
    ),
    PrivateName(
        "_training_metadata_path",
        "keras.src.callbacks.backup_and_restore",
        "Where `CrashSafeBackup` sends the epoch and batch.",
    ),
)

#: Private names of TensorFlow Model Optimization, in its child process.
TFMOT_PRIVATE_NAMES = (
    PrivateName(
        "_weight_vars",
        "tensorflow_model_optimization.python.core.quantization.keras."
        "quantize_wrapper",
        "The ranges with which a kernel is quantized.",
    ),
)

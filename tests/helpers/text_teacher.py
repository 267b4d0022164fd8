"""Teacher of texts in plain Python and in TensorFlow."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np

from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.utils.answer_form import AnswerForm

SPECS = [{"name": "text", "shape": [None], "dtype": "string", "range": None}]
CLASSES = ["a", "b", "c", "d"]
PRIME = 9973


def text_logits(inputs):
    """In plain Python: four numbers that any change of a text changes.

    Bytes of its UTF-8, its characters, a weighted sum of their code points,
    the last of these.
    """
    rows = []
    for text in inputs["text"]:
        codes = [ord(character) for character in text]
        checksum = sum(code * (1 + at % 7) for at, code in enumerate(codes))
        rows.append(
            [len(text.encode()), len(text), checksum % PRIME, codes[-1] % PRIME]
        )
    return np.array(rows, "float32").reshape(-1, 4)


def text_bundle(specs=SPECS):
    """The attributes of a bundle that a server reads, without any file."""
    return SimpleNamespace(
        teacher_inputs=specs,
        teacher_identity="0" * 64,
        classes=CLASSES,
        answer_form=AnswerForm((len(CLASSES),)),
        manifest={"teacher": {"output": "logits"}},
        teacher_folder=SimpleNamespace(name="1"),
        manifest_sha256="0" * 64,
    )


def write_saved_model(folder):
    """The same in TensorFlow's operations."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def logits(text):
        codes = tf.strings.unicode_decode(text, "UTF-8")
        lengths = codes.row_lengths()
        at = tf.ragged.range(lengths)
        checksum = tf.reduce_sum(tf.cast(codes, tf.int64) * (1 + at % 7), 1)
        last = tf.gather(codes.values, codes.row_limits() - 1)
        columns = [
            tf.cast(tf.strings.length(text), tf.int64),
            lengths,
            checksum % PRIME,
            tf.cast(last, tf.int64) % PRIME,
        ]
        return {"logits": tf.cast(tf.stack(columns, 1), tf.float32)}

    module = tf.Module()
    module.logits = logits
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": logits}
    )


def make_text_bundle(bundle_path, path):
    """A bundle whose teacher takes texts; its student is never run."""
    shutil.copytree(bundle_path, path)
    teacher = path / "teacher" / "1"
    shutil.rmtree(teacher)
    write_saved_model(teacher)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["input"] = SPECS
    manifest["teacher"].pop("probes", None)  # of the teacher that was there
    manifest["teacher"]["files"] = {
        file.relative_to(teacher).as_posix(): hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in teacher.rglob("*")
        if file.is_file()
    }
    write_manifest(manifest, path / "manifest.json")
    return path

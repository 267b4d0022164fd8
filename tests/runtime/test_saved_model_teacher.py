"""SavedModels of texts, in processes without their operations."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_cascade.runtime import SavedModelTeacher, TeacherError
from keras_cascade.runtime.inputs import prepare_inputs

SPECS = [{"name": "text", "shape": [None], "dtype": "string", "range": None}]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "fox"]
# First as if TensorFlow Text were not installed, then with it.
PROGRAM = """
import sys
from keras_cascade.runtime import SavedModelTeacher, TeacherError
from keras_cascade.runtime.inputs import prepare_inputs
specs = [{"name": "text", "shape": [None], "dtype": "string"}]
assert "tensorflow_text" not in sys.modules
sys.modules["tensorflow_text"] = None
try:
    SavedModelTeacher(sys.argv[1])
except TeacherError as error:
    print(error)
del sys.modules["tensorflow_text"]
x = prepare_inputs(["the fox", "Quick, zebra!"], specs)
print(SavedModelTeacher(sys.argv[1]).logits(x).argmax(axis=1).tolist())
"""


@pytest.fixture(scope="module")
def with_a_tokenizer(tmp_path_factory):
    """A SavedModel whose top class is the id of a text's first token."""
    import keras_hub

    folder = str(tmp_path_factory.mktemp("hub") / "model")
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary=WORDS, lowercase=True),
        sequence_length=8,
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def logits(text):
        first = preprocessor(text)["token_ids"][:, 1]
        return {"logits": tf.one_hot(first, len(WORDS))}

    module = tf.Module()
    module.logits, module.preprocessor = logits, preprocessor
    tf.saved_model.save(module, folder, signatures={"serving_default": logits})
    return folder


def test_tensorflow_text_is_loaded_where_it_is_needed(with_a_tokenizer):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, with_a_tokenizer],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    message, answer = done.stdout.strip().splitlines()
    assert "needs the operation" in message
    assert message.endswith("Install `tensorflow-text`.")
    assert answer == str([WORDS.index("the"), WORDS.index("quick")])


def test_texts_arrive_as_utf_8(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def logits(text):
        sizes = [
            tf.strings.length(text, unit) for unit in ("BYTE", "UTF8_CHAR")
        ]
        return {"logits": tf.cast(tf.stack(sizes, axis=1), tf.float32)}

    module = tf.Module()
    module.logits = logits
    tf.saved_model.save(
        module, str(tmp_path), signatures={"serving_default": logits}
    )
    texts = ["a\0\0", "é", "👩‍👩‍👧", "漢字"]
    found = SavedModelTeacher(tmp_path).logits(prepare_inputs(texts, SPECS))
    np.testing.assert_array_equal(
        found, [[len(text.encode()), len(text)] for text in texts]
    )


def test_an_operation_that_nobody_has(tmp_path, monkeypatch):
    def load(folder):
        raise RuntimeError("Op type not registered 'MadeUp' in binary")

    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(TeacherError, match=r"neither.*TensorFlow Text.*MadeUp"):
        SavedModelTeacher(tmp_path)

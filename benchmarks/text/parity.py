"""Comparison of the tokens on a device with those in training."""

import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import keras
import numpy as np

from keras_cascade.text import preprocessors
from keras_cascade.text.text_reader import PROBES
from keras_cascade.text.tokenizer import FEEDS

RANDOM, LONGEST = 10_000, 40
LENGTH = 48


def differences(student, bundle, texts):
    """Counts the texts with other tokens on the device.

    Args:
        student: trained `TextModel`.
        bundle: `Bundle` of it.
        texts: list of str.

    Returns:
        Dict of counts.
    """
    every = [*texts, *PROBES, *random_texts(RANDOM)]
    expected = _in_graph(student, every)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts.txt"), Path(folder, "ids.npy")
        # Escaped, so that each text is one line.
        source.write_text("\n".join(map(ascii, every)), encoding="ascii")
        subprocess.run(
            [
                sys.executable, "-m", "benchmarks.text.device",
                str(bundle.path), str(source), str(target),
            ],
            check=True,
        )  # fmt: skip
        on_device = np.load(target, allow_pickle=False)
    return {
        "tokenizer_differences": _different(expected, on_device),
        "tokenized_texts": len(every),
        "converted_differences": {
            "keras_hub_word_piece": _converted(_word_piece(texts), every),
            "text_vectorization": _converted(_vectorization(texts), every),
        },
    }


def random_texts(count, seed=0):
    """Draws texts of all assigned characters, with spaces.

    Args:
        count: int.
        seed: int. Defaults to `0`.
    """
    rng = np.random.default_rng(seed)
    known = [
        chr(code)
        for code in range(32, sys.maxunicode + 1)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    pool = [known, [" ", "\t", "\u0301", "a", "Z", "7", "."]]
    texts = []
    for size in rng.integers(1, LONGEST, count):
        picks = rng.random(size) < 0.3
        texts.append(
            "x"
            + "".join(
                pool[int(pick)][rng.integers(len(pool[int(pick)]))]
                for pick in picks
            )
        )
    return texts


def _in_graph(student, texts):
    import tensorflow as tf

    run = tf.function(student.preprocess, autograph=False)
    return run(tf.constant(texts)).numpy()


def _converted(preprocessor, texts):
    step = preprocessors.get(preprocessor, FEEDS[:1])
    expected = step.arrays((np.array(texts, dtype=object),))["token_ids"]
    return _different(expected, step.as_tokenizer().encode(texts)["token_ids"])


def _word_piece(texts):
    import keras_hub

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted({one for text in texts for one in text.lower()} - {" "})
    words = sorted({w for text in texts for w in text.lower().split()})
    return keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(
            vocabulary=list(
                dict.fromkeys(
                    [*special, *letters, *(f"##{c}" for c in letters), *words]
                )
            ),
            lowercase=True,
        ),
        sequence_length=LENGTH,
    )


def _vectorization(texts):
    layer = keras.layers.TextVectorization(output_sequence_length=LENGTH)
    layer.adapt(np.array(texts, dtype=object), batch_size=1024)
    return layer


def _different(expected, received):
    return int((expected != received).any(axis=1).sum())

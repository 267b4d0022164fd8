"""Tokenization on a device, without TensorFlow and Keras.

    python -m benchmarks.text.device BUNDLE TEXTS.txt IDS.npy

`TEXTS.txt` has one Python string literal per line.
"""

import ast
import sys
from pathlib import Path

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.text.text_reader import TextReader


def main():
    """Tokenizes the texts and writes their token ids."""
    bundle, source, target = sys.argv[1:]
    lines = Path(source).read_text(encoding="ascii").split("\n")
    texts = np.array([ast.literal_eval(line) for line in lines], dtype=object)
    reader = TextReader.load(Bundle.load(bundle), "student")
    # One text per call, as on a device.
    rows = [
        reader({"input": texts[row : row + 1]})[0] for row in range(len(texts))
    ]
    np.save(target, np.concatenate([row["input"] for row in rows]))
    heavy = {"tensorflow", "keras"} & set(sys.modules)
    if heavy:
        raise RuntimeError(f"Expected neither of {heavy} on the device.")


if __name__ == "__main__":
    main()

"""The device's side of the parity: no TensorFlow, no Keras.

    python -m benchmarks.text.device BUNDLE TEXTS.txt IDS.npy

`TEXTS.txt` has one Python string literal a line.
"""

import ast
import sys
from pathlib import Path

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.text.text_reader import TextReader


def main():
    """Tokenizes and writes."""
    bundle, asked, answer = sys.argv[1:]
    lines = Path(asked).read_text(encoding="ascii").split("\n")
    texts = np.array([ast.literal_eval(line) for line in lines], dtype=object)
    reader = TextReader.load(Bundle.load(bundle), "student")
    # One at a time, as they come on a device.
    rows = [
        reader({"input": texts[row : row + 1]})[0] for row in range(len(texts))
    ]
    np.save(answer, np.concatenate([row["input"] for row in rows]))
    heavy = {"tensorflow", "keras"} & set(sys.modules)
    if heavy:
        raise RuntimeError(f"Expected neither of {heavy} on the device.")


if __name__ == "__main__":
    main()

"""Exports where no file may be larger than a limit, as on a full disk.

A process of its own: a limit that was lowered stays. Prints one line a
limit: the error's kind, a tab, and its text.
"""

import resource
import signal
import sys

import keras
import numpy as np

import keras_cascade as kc

LIMITS = (90_000, 20_000, 1_000)


def model(units):
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(units),
            keras.layers.Dense(4),
        ]
    )


def main(path):
    # Otherwise the signal ends the process; a full disk is an error.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    cascade = kc.Cascade(model(3000), model(8))
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    for limit in LIMITS:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            cascade.export(
                path,
                calibration_data=(x, np.arange(64) % 4),
                overwrite=True,
            )
        except Exception as error:
            text = " ".join(str(error).split())
            print(f"{type(error).__name__}\t{text}")


if __name__ == "__main__":
    main(sys.argv[1])

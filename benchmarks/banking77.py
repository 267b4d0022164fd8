"""Banking77: 13,083 questions of bank customers, 77 intents (CC BY 4.0)."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Banking77(NamedTuple):
    """The data set as its authors split it.

    Attributes:
        train_texts: list of str.
        train_labels: int32 array.
        test_texts: list of str.
        test_labels: int32 array.
        names: list of str, the intents in label order.
    """

    train_texts: list
    train_labels: np.ndarray
    test_texts: list
    test_labels: np.ndarray
    names: list


def banking77(folder):
    """Reads `banking77_train.csv` and `banking77_test.csv`.

    Args:
        folder: path, or `None` where `--data` is not given.

    Returns:
        `Banking77`.

    Raises:
        ValueError: the files are not there.
    """
    files = ("banking77_train.csv", "banking77_test.csv")
    missing = [
        name
        for name in files
        if folder is None or not Path(folder, name).is_file()
    ]
    if missing:
        raise ValueError(
            "Expected `--data FOLDER`, a folder with the files "
            f"{' and '.join(files)} (columns 'text' and 'label', PolyAI's "
            f"Banking77). Received: {folder}, without {missing}."
        )
    (train_texts, train), (test_texts, test) = (
        _read(Path(folder, name)) for name in files
    )
    names = sorted(set(train))
    numbers = {name: number for number, name in enumerate(names)}
    return Banking77(
        train_texts,
        np.array([numbers[name] for name in train], "int32"),
        test_texts,
        np.array([numbers[name] for name in test], "int32"),
        names,
    )


def _read(file):
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row["text"] for row in rows], [row["label"] for row in rows]

"""Crash-safe backups of the training state."""

import os
import shutil
from pathlib import Path

import keras


class CrashSafeBackup(keras.callbacks.BackupAndRestore):
    """`keras.callbacks.BackupAndRestore` with atomic backups.

    Keras overwrites the weights in place and then the epoch beside them: a
    process killed in between resumes with the weights of one epoch and the
    number of another, or with half a file. Here both go into a new folder
    that is renamed when it is complete.

    Data that comes in the same order every epoch (`shuffle=False`, or seeded
    by epoch) then gives the weights of a run that was never stopped.

    Args:
        backup_dir: folder for the backups.
        save_freq: `"epoch"`, or int, number of batches between backups.
            Defaults to `"epoch"`.
        double_checkpoint: bool, as in Keras. Defaults to `False`.
        delete_checkpoint: bool. Removes the backup when training ends.
            Defaults to `True`.

    Example:

    ```python
    cascade.fit(
        x, y, epochs=10, callbacks=[kc.callbacks.CrashSafeBackup("backup")]
    )
    ```
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__(
            str(backup_dir),
            save_freq=save_freq,
            double_checkpoint=double_checkpoint,
            delete_checkpoint=delete_checkpoint,
        )
        self._root = Path(backup_dir)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores the newest complete backup, if one exists."""
        complete = self._complete()
        if complete:
            self._point_to(complete[-1])
            super().on_train_begin(logs)

    def _save_model(self):
        before = self._complete()
        number = 1 + (_number(before[-1]) if before else 0)
        work = self._root / ".part"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._point_to(work)
        super()._save_model()
        work.rename(self._root / f"state-{number:08d}")
        for old in before:
            shutil.rmtree(old)

    def _complete(self):
        return sorted(self._root.glob("state-*"))

    def _point_to(self, folder):
        self._weights_path = str(folder / "latest.weights.h5")
        self._training_metadata_path = str(folder / "training_metadata.json")


def _number(folder):
    return int(folder.name.rpartition("-")[2])

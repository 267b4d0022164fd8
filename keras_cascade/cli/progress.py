"""A progress bar for `fit`."""

import keras
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)


class RichProgress(keras.callbacks.Callback):
    """Shows one bar for a whole training, with two metrics beside it.

    Args:
        console: `rich.console.Console`.
        what: str, what is trained.
        shown: list of metric names to show.
    """

    def __init__(self, console, what, shown):
        super().__init__()
        self._what = what
        self._shown = shown
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )

    def on_train_begin(self, logs=None):
        """Starts the bar."""
        self._progress.start()
        self._task = self._progress.add_task(
            self._what, total=self.params["epochs"], metrics=""
        )
        self._steps = self.params.get("steps")

    def on_train_batch_end(self, batch, logs=None):
        """Moves within an epoch, where the number of steps is known."""
        if self._steps:
            self._progress.update(
                self._task, completed=self._epoch + (batch + 1) / self._steps
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch."""
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's metrics."""
        parts = [
            f"{name} {logs[name]:.3f}" for name in self._shown if name in logs
        ]
        self._progress.update(
            self._task, completed=epoch + 1, metrics="  ".join(parts)
        )

    def stop(self):
        """Leaves the bar on the screen as it is."""
        self._progress.stop()


def fit_with_progress(model, console, what, shown, *args, **kwargs):
    """`model.fit` with one bar; the terminal is restored if it raises.

    Args:
        model: compiled `keras.Model`.
        console: `rich.console.Console`.
        what: str, what is trained.
        shown: list of metric names to show.
        *args: of `model.fit`.
        **kwargs: of `model.fit`.

    Returns:
        `keras.callbacks.History`.
    """
    bar = RichProgress(console, what, shown)
    try:
        return model.fit(
            *args,
            verbose=0,
            # Said about a tf.data set, it would only earn a warning.
            shuffle=False,
            callbacks=[bar],
            **kwargs,
        )
    finally:
        bar.stop()

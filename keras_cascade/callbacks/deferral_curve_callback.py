"""Callback that logs the deferral curve to TensorBoard."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cascade.evaluation.deferral_score import deferral_area
from keras_cascade.evaluation.plots import deferral_figure

#: Delegation rates at which the accuracy is logged.
RATES = (0.1, 0.2, 0.3)


class DeferralCurveCallback(keras.callbacks.Callback):
    """Logs the deferral curve to TensorBoard after every epoch.

    Scalars: `accuracy_at_10`, `_20`, `_30` (cascade accuracy at 10, 20 and
    30 % delegation), `delegation_rate` and `selected_fraction`; and the curve
    as an image. Read them with `tensorboard --logdir DIR`.

    Callbacks after it, such as `EarlyStopping`, and the history find
    `val_cascade_accuracy_at_0.1`, `_0.2` and `_0.3` and `val_deferral_area`
    in their logs.

    Args:
        data: labelled examples, `(x, y)` arrays or batches that can be read
            every epoch; not the training data.
        log_dir: folder to write to.

    Example:

    ```python
    curve = kc.callbacks.DeferralCurveCallback((x_val, y_val), "logs")
    cascade.fit(x, y, callbacks=[curve])
    ```
    """

    def __init__(self, data: Any, log_dir: str | os.PathLike):
        super().__init__()
        self._data = data
        self._folder = Path(log_dir)
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Scores the data with the current weights and logs the results."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder))
        curve = self.model.judge(self._data).deferral_curve()
        values = {
            f"accuracy_at_{round(100 * rate)}": curve.accuracy_at(rate)
            for rate in RATES
        }
        if logs is not None:
            for rate in RATES:
                name = f"val_cascade_accuracy_at_{rate:g}"
                logs[name] = curve.accuracy_at(rate)
            logs["val_deferral_area"] = deferral_area(curve)
        for name in ("delegation_rate", "selected_fraction"):
            if logs and name in logs:
                values[name] = float(logs[name])
        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            tf.summary.image("deferral_curve", _picture(curve)[None])
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the log file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _picture(curve):
    """Renders the curve as a uint8 array `(height, width, 4)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(deferral_figure(curve, "deferral curve"))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())

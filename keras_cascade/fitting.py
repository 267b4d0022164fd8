"""What `Cascade.fit` does to its arguments before Keras sees them."""

import warnings

import keras
import numpy as np

from keras_cascade.datasets import batches
from keras_cascade.datasets.watched import Watcher
from keras_cascade.teacher_logits.cached_data import CachedData
from keras_cascade.teacher_logits.margin_summary import margin_summary
from keras_cascade.text.text_columns import as_text_arrays


class FitArguments:
    """The arguments of `fit`, checked, weighed, remembered and cached.

    Args:
        classes: int, number of classes.
        arguments: dict of `keras.Model.fit`'s arguments; changed in place.

    Attributes:
        arguments: the dict.
        sources: objects whose `error` explains what `fit` may raise.
    """

    def __init__(self, classes, arguments):
        self.arguments = arguments
        validation = arguments["validation_data"]
        if isinstance(validation, (list, tuple)) and validation:
            texts = as_text_arrays(validation[0])
            arguments["validation_data"] = (texts, *validation[1:])
        x = arguments["x"]
        shuffled = batches.is_array_like(x) or isinstance(
            x, keras.utils.PyDataset
        )
        if not shuffled:  # Keras cannot, and would warn that it does not.
            arguments["shuffle"] = False
        self._watcher = Watcher(classes)
        self.sources = [self._watcher]

    def weigh(self, traffic):
        """Multiplies a `TrafficMix` into the sample weights."""
        a = self.arguments
        a["sample_weight"] = weighed(
            traffic, a["x"], a["y"], a["sample_weight"]
        )

    def watch(self, remember, validation_examples):
        """Checks every example, and remembers what it is used for.

        Args:
            remember: `Fingerprint` of what is trained on.
            validation_examples: `Fingerprint` of what is validated on.
        """
        a, watcher = self.arguments, self._watcher
        x, y, validation = a["x"], a["y"], a["validation_data"]
        if a["validation_split"] and validation is None and y is not None:
            # Keras holds out the last share: those are not trained on.
            count = int(batches.rows_of(x) * (1.0 - a["validation_split"]))
            watcher.watch(*_cut(x, y, 0, count), remember=remember)
            watcher.watch(
                *_cut(x, y, count, None), remember=validation_examples
            )
        else:
            a["x"] = watcher.watch(x, y, remember=remember)
        if isinstance(validation, (list, tuple)):
            watcher.watch(
                *batches.unpack(validation)[:2], remember=validation_examples
            )
        elif validation is not None:
            a["validation_data"] = watcher.watch(
                validation, remember=validation_examples
            )
        if a["steps_per_epoch"] is None:  # the first epoch draws them all
            self._add_callback(watcher.forget_after_first_epoch())

    def use_cache(self, cache):
        """Puts cached teacher logits beside the inputs."""
        a = self.arguments
        if a["validation_split"]:
            raise ValueError(
                "Expected `validation_data` with cached logits. Received: "
                "`validation_split`."
            )
        cached = CachedData(cache)
        self.sources.append(cached)
        self._add_callback(
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, _: setattr(cached, "view", epoch)
            )
        )
        if not batches.is_array_like(a["x"]):
            a["x"] = cached.batches(a["x"])
            return
        a["x"] = cached.arrays(
            a["x"], a["y"], a["sample_weight"], a["batch_size"], a["shuffle"]
        )
        a.update(y=None, sample_weight=None, batch_size=None, shuffle=False)

    def _add_callback(self, callback):
        given = self.arguments["callbacks"]
        if isinstance(given, keras.callbacks.CallbackList):
            given.append(callback)
        else:
            given = [] if given is None else keras.tree.flatten(given)
            self.arguments["callbacks"] = [*given, callback]


def weighed(traffic, x, y, sample_weight=None):
    """Sample weights of arrays under a `TrafficMix`.

    Args:
        traffic: `TrafficMix`.
        x: inputs; arrays, not batches.
        y: labels.
        sample_weight: weights to multiply in. Defaults to `None`.

    Returns:
        float64 array `(examples,)`.
    """
    if not batches.is_array_like(x) or y is None:
        raise ValueError(
            "Expected arrays `x` and `y` with `traffic`. Received: batches. "
            "To train, give them weights with `TrafficMix.class_weights`, as "
            "`class_weight`; to measure, use `Cascade.judge(batches, "
            "traffic=...)` with `keras_cascade.evaluation.summarize`."
        )
    return traffic.weights(y, sample_weight)


def check_cache(cache, cascade, inputs, verbose):
    """Refuses a stale cache; shows what the policy will select.

    Args:
        cache: `TeacherLogitsCache`.
        cascade: `Cascade` that is about to be trained.
        inputs: a few of the training inputs, before any augmentation.
        verbose: of `fit`.
    """
    if cache.info["teacher_sha256"] is not None:  # of one single teacher
        cache.check_weights(cascade.teacher)
        cache.spot_check(cascade.two_stage_pass().ask_teacher, inputs)
    if verbose:
        print(margin_summary(cache.margins(), cascade.distillation))


def warn_of_selection(policy, history):
    """Warns of a policy that hardly tells examples apart.

    Args:
        policy: `DistillationPolicy`.
        history: `keras.callbacks.History`.
    """
    share = history.history.get("selected_fraction", [None])[-1]
    if not policy.selective or share is None or 0.02 <= share <= 0.98:
        return
    advice = (
        "The student learns next to nothing from the teacher: select more."
        if share < 0.02
        else "A teacher is overconfident on its own training data: train the "
        "student on held-out or augmented data or with cross-fitted logits, "
        "or select less."
    )
    warnings.warn(
        f"{type(policy).__name__} selected {share:.1%} of the training "
        f"examples, so it hardly tells them apart. {advice}",
        stacklevel=3,
    )


def _cut(x, y, start, stop):
    rows = slice(start, stop)
    return batches.take_rows(x, rows), np.asarray(y)[rows]

"""Probe rows of an exported teacher, and its logits of them."""

import hashlib
import json

import numpy as np
from scipy.spatial import KDTree

from keras_cascade.runtime.teachers.probe_rows import (
    probe_inputs,
    probe_shapes,
)

#: Of the standard deviation of the teacher's logits of the rows. The same
#: weights answer within 1e-5 of it with float32 sums in another order (another
#: processor, batch size or runtime), 2e-3 with the 11 significant bits of TF32
#: and float16 and 1.5e-2 with the 8 of bfloat16. One step of Adam moved three
#: small networks by 0.022, 0.022 and 0.38, ten steps by 0.11 at least; another
#: order of classes is off by 3 or more.
TOLERANCE = 0.02
#: Rows to begin with, and at most.
ROWS, MOST_ROWS = 8, 64
#: Fewest, where the answer to a row has several axes.
FEWEST_ROWS = 2
#: Logits in a manifest at most, but for the first rows.
MOST_NUMBERS = 65_536
#: Share of classes that may be as good as equal to another class.
ALIKE = 0.1


def teacher_probes(teacher, specs, example_inputs, files) -> dict:
    """Manifest entry of the probe rows, or the reason why there are none.

    Every two classes must differ in some row by more than twice the
    tolerance: then no exchange of classes stays unnoticed. Where 8 rows do not
    tell them apart, more are tried.

    Args:
        teacher: object with `logits(inputs)` that executes the file.
        specs: list of its inputs, as in the manifest.
        example_inputs: dict of input name to array; their sizes replace free
            ones.
        files: dict of the teacher's files to their hashes; the seed follows
            from it.

    Returns:
        Dict `{"probes": ...}`, or `{"why_no_probes": str}`.
    """
    shapes = probe_shapes(specs, example_inputs)
    text = json.dumps(files, sort_keys=True)
    seed = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    rows, alike = ROWS, 1.0
    first = np.shape(teacher.logits(probe_inputs(specs, seed, 1, shapes)))
    if len(first) > 2:  # the answer to a row has several axes
        most = MOST_NUMBERS // int(np.prod(first))
        if most < FEWEST_ROWS:
            return {
                "why_no_probes": "its answer to one row has more numbers than "
                "a manifest should hold"
            }
        rows = min(rows, most)
    while True:
        inputs = probe_inputs(specs, seed, rows, shapes)
        logits = np.asarray(teacher.logits(inputs), "float32")
        if not np.isfinite(logits).all():
            return {"why_no_probes": "it answers made-up inputs with NaN"}
        tolerance = TOLERANCE * float(logits.std())
        if not _repeats(teacher, inputs, logits, tolerance):
            return {"why_no_probes": "its logits of the same input vary"}
        alike = _alike(logits, 2 * tolerance)
        enough = 2 * logits.size > MOST_NUMBERS
        if not alike or rows == MOST_ROWS or enough:
            break
        rows *= 2
    if alike > ALIKE:
        return {
            "why_no_probes": "it answers made-up inputs with the same logits "
            f"for {alike:.0%} of its classes"
        }
    if not tolerance:  # of a single output no other can be alike
        return {"why_no_probes": "it answers made-up inputs with one value"}
    return {
        "probes": {
            "rows": rows,
            "seed": seed,
            "shapes": shapes,
            # The shortest decimal numbers that are these float32.
            "logits": _nested(logits),
            "tolerance": tolerance,
        }
    }


def _nested(values):
    if values.ndim:
        return [_nested(one) for one in values]
    return float(str(values[()]))


def _repeats(teacher, inputs, logits, tolerance):
    """Returns `True` where rows have the same logits alone as together."""
    return all(
        np.abs(
            teacher.logits({k: v[row : row + 1] for k, v in inputs.items()})
            - logits[row]
        ).max()
        <= tolerance / 4
        for row in range(min(ROWS, len(logits)))
    )


def _alike(logits, distance):
    """Returns the share of classes within a distance of another class."""
    columns = np.asarray(logits, "float64").reshape(-1, logits.shape[-1]).T
    nearest = KDTree(columns).query(columns, k=2, p=np.inf)[0][:, 1]
    return float((nearest <= distance).mean())

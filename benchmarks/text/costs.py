"""Processor time per question."""

import statistics
import time

import numpy as np

WARM_UP, CALLS = 20, 400
BATCH = 32


def costs(edge, texts):
    """Measures the processor time of the teacher over that of the student.

    Args:
        edge: `EdgeCascade` with its teacher in this process.
        texts: list of str.

    Returns:
        Dict of ratios, and of the milliseconds behind them.
    """
    result = {}
    for batch, calls, suffix in ((1, CALLS, ""), (BATCH, 40, "_batch_32")):
        student, teacher = [], []
        for number in range(WARM_UP + calls):
            start = number * batch % (len(texts) - batch)
            part = texts[start : start + batch]
            named = {"input": np.array(part, dtype=object)}
            for run, times in (
                (lambda part=part: edge.predict_alone(part), student),
                (lambda named=named: edge.logits(named), teacher),
            ):
                before = time.process_time()
                run()
                times.append((time.process_time() - before) / batch)
        medians = [
            statistics.median(times[WARM_UP:]) for times in (student, teacher)
        ]
        result[f"student_ms{suffix}"] = 1000 * medians[0]
        result[f"teacher_ms{suffix}"] = 1000 * medians[1]
        result[f"teacher_over_student_cost{suffix}"] = medians[1] / medians[0]
    return result

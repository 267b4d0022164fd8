"""Charts of the report as SVG paths."""

import math

import numpy as np

WIDTH, HEIGHT = 600, 370
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 34, 58
#: Least height of a chart, as a share.
LEAST = 0.01


class Chart:
    """Maps shares in [0, 1] to coordinates in an SVG of 600 × 370.

    Args:
        values: list of number lists; the y axis covers all of them. The x
            axis goes from 0 to 1.

    Attributes:
        frame: dict of `left`, `top`, `width`, `height` in SVG units and
            `low`, `high`, the ends of the y axis.
        x_ticks: list of `(coordinate, label)`.
        y_ticks: list of `(coordinate, label)`.

    Example:

    >>> from keras_cascade.evaluation.report.charts import Chart
    >>> chart = Chart([[0.8, 0.9]])
    >>> chart.line([0.0, 1.0], [0.8, 0.9])
    'M66.0 288.8 584.0 57.2'
    """

    def __init__(self, values):
        shares = np.concatenate([np.asarray(v, "float64") for v in values])
        low, high = float(shares.min()), float(shares.max())
        room = max(0.1 * (high - low), LEAST / 2)
        low, high = max(low - room, 0.0), min(high + room, 1.0)
        self.frame = {
            "left": LEFT,
            "top": TOP,
            "width": WIDTH - LEFT - RIGHT,
            "height": HEIGHT - TOP - BOTTOM,
            "low": low,
            "high": high,
        }
        self.width, self.height = WIDTH, HEIGHT
        self.x_ticks = [(self.x(t), _label(t)) for t in (0, 0.25, 0.5, 0.75, 1)]
        self.y_ticks = [(self.y(t), _label(t)) for t in _ticks(low, high)]

    def x(self, share):
        """Coordinate of a share on the x axis, from the left."""
        return round(self.frame["left"] + self.frame["width"] * share, 1)

    def y(self, share):
        """Coordinate of a share on the y axis, from the top."""
        frame = self.frame
        up = (share - frame["low"]) / (frame["high"] - frame["low"])
        return round(frame["top"] + frame["height"] * (1 - up), 1)

    def line(self, x, y):
        """Path through points."""
        return "M" + " ".join(self._points(x, y))

    def steps(self, x, y):
        """Path of a step function, constant up to the next point."""
        path = [f"M{self._points(x[:1], y[:1])[0]}"]
        for right, height in zip(x[1:], y[1:], strict=True):
            path.append(f"H{self.x(right)}V{self.y(height)}")
        return "".join(path)

    def band(self, x, low, high):
        """Closed path around the area between two lines."""
        around = self._points(x, high) + self._points(x[::-1], low[::-1])
        return "M" + " ".join(around) + "Z"

    def _points(self, x, y):
        return [f"{self.x(a)} {self.y(b)}" for a, b in zip(x, y, strict=True)]


def report_charts(summary, slider):
    """Makes the charts of a report.

    Args:
        summary: dict, as `summarize` returns it.
        slider: dict, as `slider_values` returns it.

    Returns:
        Dict of `Chart`: `deferral`, `selective`, and `reliability`, which is
        `None` where the student's confidence is not known.
    """
    selective = summary["selective_accuracy"]
    band = (summary["bootstrap"] or {"band": None})["band"]
    edges = [summary["student_accuracy"], summary["teacher_accuracy"]]
    ranges = [slider["accuracy"], summary["ideal_curve"]["accuracy"], edges]
    if band is not None:
        ranges += [band["low"], band["high"]]
    return {
        "deferral": Chart(ranges),
        "selective": Chart(
            [selective["student_accuracy"], selective["teacher_accuracy"]]
        ),
        "reliability": summary["calibration"] and Chart([[0, 1]]),
    }


def _ticks(low, high):
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(
        low, high
    )
    return [
        round(float(tick), 9)
        for tick in ticks
        if low - 1e-9 <= tick <= high + 1e-9
    ]


def _label(share):
    return f"{round(100 * share, 6):g}"


def cost_decimals(costs):
    """Number of decimals that show the teacher's cost to four digits.

    Args:
        costs: dict of a `Costs`.
    """
    return _decimals(costs["teacher"] + costs["network"], digits=4)


def threshold_decimals(thresholds):
    """Number of decimals that show the spread of thresholds to five digits.

    Args:
        thresholds: list of floats, ascending, the ends of the type included.
    """
    inner = thresholds[1:-1] or [0.0]
    return _decimals(max(inner[-1] - inner[0], abs(inner[0]) * 1e-6), digits=6)


def _decimals(size, digits):
    if not size > 0:
        return digits
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), 15)

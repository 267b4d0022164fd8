"""Plots of the deferral curve."""

from matplotlib.figure import Figure

STUDENT, TEACHER, CASCADE = "#b45309", "#0f766e", "#1d4ed8"


def plot_deferral_curve(curve, file, title, point=None):
    """Writes the plot of a deferral curve as a PNG.

    Args:
        curve: `DeferralCurve`.
        file: path of the PNG to write.
        title: str.
        point: optional `(delegation_rate, accuracy)` to mark.
    """
    deferral_figure(curve, title, point).savefig(file)


def deferral_figure(curve, title, point=None):
    """Makes a figure of the deferral curve.

    Args:
        curve: `DeferralCurve`.
        title: str.
        point: optional `(delegation_rate, accuracy)` to mark.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    draw_deferral_curve(figure.add_subplot(), curve, title, point)
    return figure


def draw_deferral_curve(axes, curve, title=None, point=None):
    """Draws the deferral curve into axes, or the loss where it has a name.

    Args:
        axes: `matplotlib.axes.Axes`.
        curve: `DeferralCurve`.
        title: optional str.
        point: optional `(delegation_rate, accuracy)` to mark.
    """
    percent = 100 * curve.delegation_rate

    def value(accuracy):
        return 100 * accuracy if curve.loss_name is None else 1 - accuracy

    def text(number):
        unit = curve.loss_name is None
        return f"{number:.1f} %" if unit else f"{number:.4f}"

    axes.step(
        percent, value(curve.accuracy), color=CASCADE, lw=2,
        where="post", label="cascade, gate decides",
    )  # fmt: skip
    axes.plot(
        percent[[0, -1]], value(curve.random_accuracy()[[0, -1]]),
        color="0.55", ls="--", lw=1.2, label="cascade, delegated at random",
    )  # fmt: skip
    teacher = value(curve.teacher_accuracy)
    student = value(curve.student_accuracy)
    axes.axhline(teacher, color=TEACHER, lw=1, label=f"teacher {text(teacher)}")
    axes.plot(
        0, student, "o", color=STUDENT, ms=7, label=f"student {text(student)}"
    )
    if point is not None:
        rate, at_point = 100 * point[0], value(point[1])
        axes.plot(
            rate, at_point, "D", color=CASCADE, ms=9, mec="white", zorder=5,
            label=f"as shipped: {text(at_point)} at {rate:.1f} % delegated",
        )  # fmt: skip
    axes.set_xlabel("share of inputs sent to the teacher (%)")
    axes.set_ylabel(curve.loss_name or "accuracy (%)")
    if title:
        axes.set_title(title)
    axes.set_xlim(-1.5, 101.5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    side = "lower" if curve.loss_name is None else "upper"
    axes.legend(loc=f"{side} right", frameon=False)

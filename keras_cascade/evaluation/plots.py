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
    """Draws the deferral curve into axes.

    Args:
        axes: `matplotlib.axes.Axes`.
        curve: `DeferralCurve`.
        title: optional str.
        point: optional `(delegation_rate, accuracy)` to mark.
    """
    percent = 100 * curve.delegation_rate
    axes.step(
        percent, 100 * curve.accuracy, color=CASCADE, lw=2,
        where="post", label="cascade, gate decides",
    )  # fmt: skip
    axes.plot(
        percent[[0, -1]], 100 * curve.random_accuracy()[[0, -1]],
        color="0.55", ls="--", lw=1.2, label="cascade, delegated at random",
    )  # fmt: skip
    teacher = 100 * curve.teacher_accuracy
    student = 100 * curve.student_accuracy
    axes.axhline(teacher, color=TEACHER, lw=1, label=f"teacher {teacher:.1f} %")
    axes.plot(
        0, student, "o", color=STUDENT, ms=7, label=f"student {student:.1f} %"
    )
    if point is not None:
        rate, accuracy = 100 * point[0], 100 * point[1]
        axes.plot(
            rate, accuracy, "D", color=CASCADE, ms=9, mec="white", zorder=5,
            label=f"as shipped: {accuracy:.1f} % at {rate:.1f} % delegated",
        )  # fmt: skip
    axes.set_xlabel("share of inputs sent to the teacher (%)")
    axes.set_ylabel("accuracy (%)")
    if title:
        axes.set_title(title)
    axes.set_xlim(-1.5, 101.5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)

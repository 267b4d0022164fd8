"""What native libraries write stays off the terminal, and errors keep it."""

import os
import subprocess
import sys
import textwrap

import pytest

from keras_cascade.utils.native_output import NativeOutput, hidden_native_output


def run(script, **environment):
    """Runs a script in a process of its own: (stdout, stderr)."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TF_CPP_MIN_LOG_LEVEL", "KERAS_CASCADE_NATIVE_LOGS")
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


WHOLE_LINE = """
    import sys, tempfile, warnings
    import keras_cascade as kc
    # The teacher is not trained, which `fit` says.
    warnings.filterwarnings("ignore", "Teacher check")
    data = kc.datasets.load("digits")
    import keras
    x, y = data.arrays("train", 200)
    teacher = kc.models.image_teacher((8, 8, 1), 10, 4)
    student = kc.models.image_student((8, 8, 1), 10, 2)
    teacher.compile("adam", "mse")
    cascade = kc.Cascade(teacher, student)
    cascade.compile("adam")
    cascade.fit(x, y, verbose=0)
    calibration = data.arrays("calibration")
    cascade.calibrate(calibration, kc.MaxDelegationRate(0.5))
    with tempfile.TemporaryDirectory() as folder:
        cascade.export(f"{folder}/bundle", quantization="int8")
        edge = kc.runtime.EdgeCascade.load(f"{folder}/bundle", "local")
        edge.predict(calibration[0])
        edge.close()
    print("python's own", file=sys.stderr)
"""


def test_a_script_from_fit_to_the_device_says_only_what_python_says():
    _, stderr = run(WHOLE_LINE)
    assert stderr.splitlines() == ["python's own"]


def test_who_asks_sees_it():
    script = "import keras_cascade as kc; kc.Cascade"
    assert run(script)[1] == ""
    # Which lines TensorFlow writes depends on the processor.
    assert run(script, KERAS_CASCADE_NATIVE_LOGS="1")[1]


def test_only_the_native_lines_are_hidden():
    out, stderr = run(
        """
        import os, sys
        from keras_cascade.utils.native_output import hidden_native_output
        with hidden_native_output():
            os.write(2, b"native, hidden\\n")
            with hidden_native_output():
                os.write(2, b"native, hidden twice\\n")
                print("python, inside", file=sys.stderr)
            os.write(2, b"native, still hidden\\n")
        os.write(2, b"native, after\\n")
        print("python, after", file=sys.stderr)
        """
    )
    lines = stderr.splitlines()
    assert lines == ["python, inside", "native, after", "python, after"]
    assert out == ""


def test_a_logger_that_is_made_meanwhile_still_writes():
    _, stderr = run(
        """
        import keras_cascade as kc
        kc.Cascade  # loads TensorFlow, which makes its logger
        import tensorflow as tf
        tf.get_logger().warning("a warning of TensorFlow's")
        """
    )
    assert stderr.splitlines() == [
        "WARNING:tensorflow:a warning of TensorFlow's"
    ]


def test_an_error_takes_the_hidden_lines_along():
    def breaks():
        with hidden_native_output():
            os.write(2, b"because of this\n")
            raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke") as raised:
        breaks()
    assert raised.value.__notes__ == [
        "Native libraries wrote:\nbecause of this"
    ]


def test_no_descriptor_is_left_open():
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        output = NativeOutput()
        output.hide()
        os.write(2, b"hidden")
        output.show()
        assert output.read() == "hidden"
        output.show()  # a second time changes nothing
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_native_abort_shows_what_was_hidden():
    script = """
import os
from keras_cascade.utils.native_output import NativeOutput
output = NativeOutput()
output.hide()
output.show_after_abort()
os.write(2, b"the library's last words\\n")
{end}
"""
    for end, shown in (("os.abort()", True), ("output.ended()", False)):
        process = subprocess.run(
            [sys.executable, "-c", script.format(end=end)],
            capture_output=True,
            text=True,
        )
        assert ("the library's last words" in process.stderr) == shown
        assert (process.returncode == 0) != shown

"""Inputs far outside of the known range are warned of, in every entrance."""

import warnings

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.runtime import inputs as runtime_inputs
from keras_cascade.runtime.inputs import (
    InputValidator,
    RangeCheck,
    prepare_inputs,
    range_problem,
)


def image_spec(low, high):
    return [
        {
            "name": "image",
            "shape": [None, 4, 4, 1],
            "dtype": "float32",
            "range": [low, high],
        }
    ]


def images(low, high, rows=2):
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, (rows, 4, 4, 1)).astype("float32")
    x[0, 0, 0], x[0, 1, 1] = low, high
    return x


@pytest.mark.parametrize(
    ("known", "given", "wrong"),
    [
        ((0, 1), (0, 1), False),
        ((0, 1), (0, 255), True),
        ((0, 1), (-1, 1), True),
        ((0, 0.6), (0, 1), False),  # a brighter image of the same scale
        ((-1, 1), (0, 255), True),
        ((-1, 1), (0, 1), False),
        ((0, 255), (0, 1), True),
        ((0, 255), (-1, 1), True),
        ((3, 217), (0, 255), False),
        ((0, 255), (0, 0), False),  # black
        ((0, 1), (-0.05, 1.05), False),  # overshoot of a sharper filter
    ],
)
def test_scales_of_images(known, given, wrong):
    assert bool(range_problem(images(*given), known)) == wrong


def test_numbers_may_lie_four_widths_outside():
    known = (10.0, 30.0)
    assert range_problem(np.array([[-70.0, 110.0]]), known) is None
    assert "far outside of 10 to 30" in range_problem(
        np.array([[-70.1]]), known
    )
    assert range_problem(np.array([[110.1]]), known)
    assert range_problem(np.array([["a"]]), known) is None
    assert range_problem(np.zeros((0, 2)), known) is None
    # Constant calibration data say nothing of a range.
    assert range_problem(np.array([[5.0]]), (1.0, 1.0)) is None


@pytest.mark.parametrize("one", [False, True])
def test_a_device_is_warned_once(one):
    validate = InputValidator(image_spec(0.0, 1.0))
    bytes_ = images(0, 255)
    with pytest.warns(UserWarning, match="from 0 to 255, far outside of 0 to"):
        validate(bytes_[0] if one else bytes_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validate(bytes_)
        validate(bytes_.tolist())


def test_later_calls_are_sampled():
    validate = InputValidator(image_spec(0.0, 1.0))
    right, wrong = images(0, 1), images(0, 255)
    every = runtime_inputs.CALLS_BETWEEN
    for _ in range(runtime_inputs.FIRST_CALLS):
        validate(right)
    with pytest.warns(UserWarning, match="far outside") as caught:
        for _ in range(every):
            validate(wrong)
    assert len(caught) == 1


def test_arrays_that_are_converted_are_checked_too():
    validate = InputValidator(image_spec(0.0, 1.0))
    with pytest.warns(UserWarning, match="far outside"):
        validate(images(0, 255).astype("float64"))


def test_a_server_s_check_speaks_once():
    check = RangeCheck(image_spec(0.0, 255.0))
    inputs = prepare_inputs(images(0, 1), image_spec(0.0, 255.0))
    assert "all at the low end of 0 to 255" in check(inputs)
    assert check(inputs) is None


def test_a_cascade_warns_and_its_file_remembers(tmp_path):
    def model():
        return keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )

    cascade = kc.Cascade(model(), model())
    cascade.compile()
    x, y = images(0, 1, 48), np.arange(48) % 3
    cascade.fit(x[:24], y[:24], verbose=0)
    cascade.calibrate((x[24:], y[24:]), kc.MaxDelegationRate(0.5, tolerance=1))
    with pytest.warns(UserWarning, match="far outside of 0 to 1"):
        cascade.predict(255 * x, verbose=0)
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.data_record.input_ranges == [[0.0, 1.0]]
    with pytest.warns(UserWarning, match="far outside of 0 to 1"):
        loaded.predict(255 * x, verbose=0)
    loaded.predict(x, verbose=0)

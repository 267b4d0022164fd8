"""Inputs of a student's file that are integers by a stated scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cascade.runtime.inputs import InputValidator
from keras_cascade.runtime.integer_inputs import (
    IntegerInput,
    IntegerInputs,
    IntegerInputStudent,
)
from keras_cascade.utils.image_format import SCALES, scaled

SPEC = {
    "name": "input",
    "shape": [None, 2, 2, 1],
    "dtype": "float32",
    "range": [0.0, 1.0],
}
INT8 = {
    **SPEC,
    "dtype": "int8",
    "range": [-128, 127],
    "quantization": {"scale": 1 / 255, "zero_point": -128},
}
forms = st.builds(
    IntegerInput,
    st.sampled_from(["int8", "uint8"]),
    st.floats(1e-6, 1e3, allow_subnormal=False),
    st.integers(-128, 127) | st.just(127.5),
)
every = np.arange(256, dtype="uint8")


@given(forms)
def test_every_integer_is_that_of_what_it_stands_for(form):
    integers = every.view(form.dtype)
    floats = form.dequantized(integers)
    assert floats.dtype == np.float32
    expected = (integers.astype(float) - form.zero_point) * form.scale
    np.testing.assert_array_equal(floats, expected.astype("float32"))
    found = form.quantized(floats)
    assert found.dtype == form.dtype
    np.testing.assert_array_equal(found, integers)


@given(
    forms,
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
)
def test_the_nearest_integer_is_taken(form, values):
    values = np.array(values, "float32")
    found = form.quantized(values).astype(float)
    limits = np.iinfo(form.dtype)
    exact = values.astype(float) / form.scale + form.zero_point
    inside = (exact > limits.min) & (exact < limits.max)
    # Half a step, and what float32 makes of so many steps.
    slack = 0.5 + 1e-6 * np.abs(exact)
    assert (np.abs(found - exact) <= slack)[inside].all()
    assert (found[exact <= limits.min - 1] == limits.min).all()
    assert (found[exact >= limits.max + 1] == limits.max).all()


@pytest.mark.parametrize("scale", ["0-1", "0-255", "-1-1"])
def test_pixels_stand_for_what_image_files_are_read_as(scale):
    low, high = SCALES[scale]
    step = (high - low) / 255
    form = IntegerInput("uint8", step, -low / step)
    np.testing.assert_allclose(
        form.dequantized(every), scaled(every, scale), atol=1e-7, rtol=1e-7
    )
    np.testing.assert_array_equal(form.quantized(scaled(every, scale)), every)


def test_rows_in_any_order_of_memory():
    form = IntegerInput("int8", 0.5, 3)
    integers = every.view("int8").reshape(2, 8, 16)
    np.testing.assert_array_equal(
        form.dequantized(integers[:, ::2].transpose(2, 0, 1)),
        form.dequantized(integers)[:, ::2].transpose(2, 0, 1),
    )


class Student:
    """Keeps what it is given."""

    def run(self, inputs):
        self.inputs = inputs
        return {}

    def row_shapes(self):
        return {"input": [2, 2, 1]}

    def close(self):
        self.inputs = None


def test_a_student_gets_integers():
    inner = Student()
    student = IntegerInputStudent(inner, IntegerInputs.of([INT8]))
    floats = np.array([0, 1, 0.4, 2], "float32").reshape(1, 2, 2, 1)
    student.run({"input": floats})
    # 0.4 is 102 steps above -128; 2 is beyond the last step.
    expected = np.array([-128, 127, -26, 127], "int8").reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(inner.inputs["input"], expected)
    student.run({"input": expected})
    assert inner.inputs["input"] is expected
    assert student.row_shapes() == {"input": [2, 2, 1]}
    student.close()
    assert inner.inputs is None


def test_no_integers_no_conversion():
    assert IntegerInputs.of([SPEC]) is None


def test_raw_integers_are_validated_as_what_they_stand_for():
    integers = IntegerInputs.of([INT8])
    validate = InputValidator([SPEC], integers)
    raw = np.array([-128, 127, 0, 1], "int8").reshape(2, 2, 1)
    for x in (raw, raw[None], {"input": raw}):
        found = validate(x)["input"]
        np.testing.assert_array_equal(
            found, np.float32([0, 1, 128 / 255, 129 / 255]).reshape(1, 2, 2, 1)
        )
    # Integers of another type are no raw ones.
    with pytest.raises(ValueError, match="Divide pixel values by 255"):
        validate(raw.astype("int16"))
    with pytest.raises(ValueError, match="of shape"):
        validate(raw[0])
    # Of several inputs each is by its own name.
    two = [INT8, {**SPEC, "name": "other"}]
    both = InputValidator(
        [SPEC, {**SPEC, "name": "other"}], IntegerInputs.of(two)
    )({"input": raw, "other": np.ones((2, 2, 1), "float32")})
    assert both["input"].max() == both["other"].max() == 1

"""Counted operations against counts by hand, layer kind by layer kind."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.evaluation import Costs
from keras_cascade.evaluation.flops import (
    CannotCountError,
    costs_from_flops,
    count_flops,
)
from keras_cascade.evaluation.graph_flops import graph_flops

TENSORFLOW = keras.backend.backend() == "tensorflow"


def of(shape, *stack, dtype="float32"):
    """A model of one input and its layers, and a row of inputs."""
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *stack])
    return model, np.zeros((1, *shape), dtype)


def attending(layer, arguments=2):
    """A model of a layer that attends from 12 positions of 32 to themselves."""
    x = keras.Input((12, 32))
    inputs = [x] * arguments
    listed = isinstance(layer, (layers.Attention, layers.AdditiveAttention))
    out = layer(inputs) if listed else layer(*inputs)
    return keras.Model(x, out), np.zeros((1, 12, 32), "float32")


def matmul(rows, inner, columns):
    return 2 * rows * inner * columns


# A convolution: outputs · (2 · window · input channels of a group + 1 bias).
# Attention of h heads of size s over t positions of size d: projections of
# query, key and value, scores, their weighted sum, and the projection back;
# 1 for each scaled score and 5 for each value of a softmax.
# A step of an LSTM: four gates of (inputs + state) · units, their bias, five
# activations and four products and sums of units; of a GRU three gates, with
# two biases, three activations and six products and sums.
T, F, U = 9, 24, 40
LSTM_STEP = matmul(1, F + U, 4 * U) + 2 * 4 * U + 9 * U
GRU_STEP = matmul(1, F + U, 3 * U) + 4 * 3 * U + 9 * U
SAME = {"padding": "same"}
CASES = {
    "Dense": (lambda: of((30,), layers.Dense(20)), matmul(1, 30, 20) + 20),
    "Dense of sequences": (
        lambda: of((7, 30), layers.Dense(20)),
        7 * (matmul(1, 30, 20) + 20),
    ),
    "EinsumDense": (
        lambda: of(
            (7, 30),
            layers.EinsumDense("btd,dhs->bths", (7, 4, 5), bias_axes="hs"),
        ),
        7 * (matmul(1, 30, 20) + 20),
    ),
    "Conv1D": (
        lambda: of((16, 4), layers.Conv1D(6, 3, **SAME)),
        16 * 6 * (2 * 3 * 4 + 1),
    ),
    "Conv2D": (
        lambda: of((8, 8, 4), layers.Conv2D(6, 3, **SAME)),
        64 * 6 * (2 * 9 * 4 + 1),
    ),
    "Conv2D with strides": (
        lambda: of((8, 8, 4), layers.Conv2D(6, 3, strides=2, **SAME)),
        16 * 6 * (2 * 9 * 4 + 1),
    ),
    "Conv2D with dilation": (
        lambda: of((8, 8, 4), layers.Conv2D(6, 3, dilation_rate=2)),
        16 * 6 * (2 * 9 * 4 + 1),
    ),
    "Conv2D in groups": (
        lambda: of((8, 8, 4), layers.Conv2D(6, 3, groups=2, **SAME)),
        64 * 6 * (2 * 9 * 2 + 1),
    ),
    "Conv1D in groups": (
        lambda: of((16, 4), layers.Conv1D(8, 3, groups=4, **SAME)),
        16 * 8 * (2 * 3 * 1 + 1),
    ),
    "Conv3D": (
        lambda: of((4, 4, 4, 2), layers.Conv3D(3, 2, **SAME)),
        64 * 3 * (2 * 8 * 2 + 1),
    ),
    "DepthwiseConv1D": (
        lambda: of((16, 4), layers.DepthwiseConv1D(3, **SAME)),
        16 * 4 * (2 * 3 + 1),
    ),
    "DepthwiseConv2D": (
        lambda: of((8, 8, 4), layers.DepthwiseConv2D(3, **SAME)),
        64 * 4 * (2 * 9 + 1),
    ),
    "SeparableConv2D": (
        lambda: of((8, 8, 4), layers.SeparableConv2D(6, 3, **SAME)),
        64 * 4 * 2 * 9 + 64 * 6 * (2 * 4 + 1),
    ),
    "Conv1DTranspose": (
        lambda: of((16, 4), layers.Conv1DTranspose(6, 3, strides=2, **SAME)),
        2 * 16 * 3 * 4 * 6 + 32 * 6,
    ),
    "Conv2DTranspose": (
        lambda: of((8, 8, 4), layers.Conv2DTranspose(6, 3, strides=2, **SAME)),
        2 * 64 * 9 * 4 * 6 + 256 * 6,
    ),
    "MultiHeadAttention": (
        lambda: attending(layers.MultiHeadAttention(num_heads=4, key_dim=8)),
        3 * (matmul(12, 32, 32) + 12 * 32)
        + 4 * (2 * matmul(12, 8, 12) + 6 * 144)
        + matmul(12, 32, 32)
        + 12 * 32,
    ),
    "GroupQueryAttention": (
        lambda: attending(
            layers.GroupQueryAttention(
                head_dim=8, num_query_heads=4, num_key_value_heads=2
            )
        ),
        2 * (matmul(12, 32, 32) + 12 * 32)
        + 2 * (matmul(12, 32, 16) + 12 * 16)
        + 4 * (2 * matmul(12, 8, 12) + 6 * 144),
    ),
    "Attention": (
        lambda: attending(layers.Attention()),
        2 * matmul(12, 32, 12) + 5 * 144,
    ),
    # A sum, a tanh, a product with the scale, and their sum over 32.
    "AdditiveAttention": (
        lambda: attending(layers.AdditiveAttention()),
        4 * 144 * 32 + 5 * 144 + matmul(12, 12, 32),
    ),
    "LSTM": (lambda: of((T, F), layers.LSTM(U)), T * LSTM_STEP),
    "LSTM, unrolled": (
        lambda: of((T, F), layers.LSTM(U, unroll=True)),
        T * LSTM_STEP,
    ),
    "LSTM of masked sequences": (
        lambda: of(
            (T, F), layers.Masking(), layers.LSTM(U, return_sequences=True)
        ),
        T * LSTM_STEP,
    ),
    "GRU": (lambda: of((T, F), layers.GRU(U)), T * GRU_STEP),
    "SimpleRNN": (
        lambda: of((T, F), layers.SimpleRNN(U)),
        T * (matmul(1, F + U, U) + 3 * U),
    ),
    "Bidirectional": (
        lambda: of((T, F), layers.Bidirectional(layers.LSTM(U))),
        2 * T * LSTM_STEP,
    ),
    # Two convolutions of four gates each, a bias for one of them.
    "ConvLSTM2D": (
        lambda: of((3, 8, 8, 4), layers.ConvLSTM2D(6, 3, **SAME)),
        3 * 64 * 6 * (4 * (2 * 9 * 4 + 1 + 2 * 9 * 6 + 1) + 9),
    ),
    "TimeDistributed": (
        lambda: of(
            (5, 8, 8, 4), layers.TimeDistributed(layers.Conv2D(6, 3, **SAME))
        ),
        5 * 64 * 6 * (2 * 9 * 4 + 1),
    ),
    "Embedding and average": (
        lambda: of(
            (12,),
            layers.Embedding(1000, 32),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4),
            dtype="int32",
        ),
        12 * 32 + matmul(1, 32, 4) + 4,
    ),
    "AveragePooling2D": (
        lambda: of((8, 8, 40), layers.AveragePooling2D(8)),
        64 * 40,
    ),
    "MaxPooling2D": (
        lambda: of((8, 8, 40), layers.MaxPooling2D(2)),
        64 * 40,
    ),
    "Softmax": (lambda: of((200,), layers.Softmax()), 5 * 200),
    "Activation": (
        lambda: of((40,), layers.Dense(50, activation="relu")),
        matmul(1, 40, 50) + 50 + 50,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_within_five_percent_of_a_count_by_hand(name):
    make, expected = CASES[name]
    model, x = make()
    assert count_flops(model, x) == pytest.approx(expected, rel=0.05)


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow's own profiler")
@pytest.mark.parametrize(
    "name", ["Dense", "Conv2D", "Conv3D", "DepthwiseConv2D", "Attention"]
)
def test_the_same_as_tensorflows_profiler_where_it_counts(name):
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    model, x = CASES[name][0]()
    graph = convert_variables_to_constants_v2(
        tf.function(model).get_concrete_function(
            tf.TensorSpec(x.shape, x.dtype)
        )
    ).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    with graph.as_default():
        profile = tf.compat.v1.profiler.profile(graph, options=options)
    found = count_flops(model, x)
    assert found == pytest.approx(profile.total_float_ops, rel=0.02)


def test_a_bag_of_words_beside_attention():
    """Numbers of weights would be 1,000·32 apart and more; work is not."""
    bag, x = CASES["Embedding and average"][0]()
    ids = keras.Input((12,), dtype="int32")
    embedded = layers.Embedding(1000, 32)(ids)
    out = layers.MultiHeadAttention(num_heads=4, key_dim=8)(embedded, embedded)
    teacher = keras.Model(
        ids, layers.Dense(4)(layers.GlobalAveragePooling1D()(out))
    )
    costs = costs_from_flops(bag, teacher, x)
    small = CASES["Embedding and average"][1]
    large = CASES["MultiHeadAttention"][1] + small
    assert costs.unit == "teacher passes"
    assert costs.student == pytest.approx(small / large, rel=0.05)
    assert bag.count_params() / teacher.count_params() > 50 * costs.student


def test_work_that_no_output_depends_on_is_none():
    class Checked(layers.Layer):
        def call(self, x):
            ops.matmul(x, ops.transpose(x))
            return x + 1.0

    if not TENSORFLOW:
        pytest.skip("JAX does not keep it")
    model, x = of((50,), Checked())
    assert count_flops(model, x) == 50


def test_models_of_a_fixed_batch_are_counted_for_one_example():
    model = keras.Sequential(
        [keras.Input(batch_shape=(4, 30)), layers.Dense(20)]
    )
    assert count_flops(model, np.zeros((4, 30), "float32")) == 30 * 40 + 20


class UnknownSteps(layers.Layer):
    """Multiplies until a value is reached that depends on the input."""

    def call(self, x):
        return ops.while_loop(
            lambda x: ops.any(x < 100.0),
            lambda x: (ops.matmul(x, ops.ones((5, 5))),),
            (x,),
        )[0]

    def compute_output_shape(self, shape):
        return shape


def test_a_loop_of_unknown_length_is_refused_where_costs_are_promised():
    model, x = of((5,), UnknownSteps(), layers.Dense(3))
    with pytest.raises(CannotCountError, match="number of steps"):
        count_flops(model, x)
    costs = costs_from_flops(model, model, x)
    assert costs.unit == "teacher weights"
    assert "numbers of weights, because" in costs.how_measured
    columns = np.arange(100.0), np.ones(100, bool), np.ones(100, bool)
    earlier = Costs(0.1, 1.0, "teacher passes", costs.how_measured)
    for weights in (costs, earlier):
        with pytest.raises(ValueError, match="says little about the work"):
            kc.calibration.fit_threshold(
                *columns, kc.MaxCost(1.5), costs=weights
            )
    counted = costs_from_flops(*[of((5,), layers.Dense(3))[0]] * 2, x)
    kc.calibration.fit_threshold(*columns, kc.MaxCost(1.5), costs=counted)


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow's graph")
def test_operations_of_unknown_work_are_named():
    import tensorflow as tf

    class Python(layers.Layer):
        def call(self, x):
            y = tf.py_function(lambda x: x * 2, [x], "float32")
            return tf.ensure_shape(y, x.shape)

    model, x = of((5,), Python())
    with pytest.raises(CannotCountError, match="the work of EagerPyFunc"):
        count_flops(model, x)
    fft, x = of((8,), layers.Lambda(lambda x: tf.math.real(
        tf.signal.fft(tf.cast(x, "complex64"))
    )))  # fmt: skip
    with pytest.raises(CannotCountError, match="the work of FFT"):
        count_flops(fft, x)


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow's graph")
def test_branches_and_einsum_in_any_form():
    import tensorflow as tf

    class Branches(layers.Layer):
        def call(self, x):
            return tf.cond(
                tf.reduce_sum(x) > 0,
                lambda: tf.matmul(x, tf.ones((6, 6))),
                lambda: x * 2.0,
            )

    model, x = of((6,), Branches())
    # The sum of 6 and the more expensive branch.
    assert count_flops(model, x) == 6 + matmul(1, 6, 6)
    for equation, shapes, expected in (
        ("ij,jk->ik", [(2, 3), (3, 4)], 2 * 24),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)], 2 * 5 * 24),
        ("...ij,jk->...ik", [(7, 5, 2, 3), (3, 4)], 2 * 35 * 24),
        ("i,j->ij", [(5,), (6,)], 30),
        ("ij->i", [(5, 6)], 30),
        ("ij->ji", [(5, 6)], 0),
        ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 6)], 2 * 720),
    ):
        graph = (
            tf.function(lambda *args, e=equation: tf.einsum(e, *args))
            .get_concrete_function(
                *(tf.TensorSpec(shape, "float32") for shape in shapes)
            )
            .graph
        )
        assert graph_flops(graph) == expected, equation

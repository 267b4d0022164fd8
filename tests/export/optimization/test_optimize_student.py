"""Every mode, from a trained cascade to decisions in LiteRT."""

import gzip
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_cascade as kc
from keras_cascade.export import ExportError
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.optimization import MODES, optimize_student
from keras_cascade.export.optimization.job_folder import (
    write_examples,
    write_job,
)
from keras_cascade.export.optimization.optimize_student import run_child
from keras_cascade.export.optimization.student_graph import StudentGraph
from keras_cascade.export.signature import Signature
from keras_cascade.runtime import StudentInterpreter

SPARSITY, CLUSTERS = 0.6, 12


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Digits:
    """A cascade on the digits, its data, and files by mode, made once."""

    def __init__(self, folder):
        keras.utils.set_random_seed(0)
        splits = kc.datasets.load("digits")
        self.train, self.test = (
            tuple(map(np.stack, zip(*part.as_numpy_iterator(), strict=True)))
            for part in (splits.train, splits.test)
        )
        x, y = self.train
        teacher = kc.models.image_teacher(splits.input_shape, 10, width=8)
        teacher.compile(keras.optimizers.Adam(5e-3), crossentropy())
        teacher.fit(x, y, epochs=5, verbose=0)
        student = keras.Sequential(
            [
                keras.Input(splits.input_shape),
                layers.Conv2D(16, 3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(
                    32, 3, strides=2, activation="relu",
                    kernel_regularizer=keras.regularizers.L2(1e-5),
                ),
                layers.Flatten(),
                layers.Dense(10),
            ]
        )  # fmt: skip
        policy = kc.distillation.StandardDistillation(
            temperature=2.0, student_loss_weight=0.3
        )
        self.cascade = kc.Cascade(teacher, student, policy)
        self.cascade.compile(keras.optimizers.Adam(5e-3))
        self.cascade.fit(x, y, epochs=8, verbose=0)
        self.teacher_logits = teacher.predict(x, verbose=0)
        self.weight = np.linspace(0.5, 1.5, len(x)).astype("float32")
        self.results, self.folder = {}, folder

    def optimized(self, mode):
        if mode not in self.results:
            x, y = self.train
            self.results[mode] = optimize_student(
                self.cascade, mode, x, y, self.teacher_logits,
                Signature(x[:8]), epochs=3, learning_rate=2e-3,
                sparsity=SPARSITY, clusters=CLUSTERS,
                sample_weight=self.weight,
            )  # fmt: skip
        return self.results[mode]

    def file(self, mode, threshold=0.5):
        path = self.folder / f"{mode}_{threshold}.tflite"
        if not path.exists():
            path.write_bytes(self.optimized(mode).convert(threshold))
        return path

    def float_file(self):
        path = self.folder / "float.tflite"
        if not path.exists():
            self.cascade.prepare(self.train[0])
            self.cascade.export(path, format="litert")
        return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return Digits(tmp_path_factory.mktemp("digits"))


def kernels(path):
    """Constant kernels of a file: `(out, height, width, in)`, `(out, in)`."""
    interpreter = Interpreter(model_path=str(path))
    shapes = {(16, 3, 3, 1), (32, 3, 3, 16), (10, 288)}
    found = {}
    for detail in interpreter.get_tensor_details():
        shape = tuple(int(size) for size in detail["shape"])
        if shape in shapes:
            found[shape] = interpreter.get_tensor(detail["index"])
    assert set(found) == shapes
    return found


def accuracy(path, x, y):
    outputs = StudentInterpreter(path).run({"input": x})
    return (outputs["probabilities"].argmax(axis=1) == y).mean()


@pytest.mark.parametrize("mode", MODES)
def test_decisions_in_litert_at_any_batch_and_threshold(digits, mode):
    x = digits.test[0][:130]
    scores = None
    for threshold in (0.2, 0.4):
        student = StudentInterpreter(digits.file(mode, threshold))
        whole = student.run({"input": x})
        if scores is not None:  # another threshold, the same scores
            np.testing.assert_array_equal(whole["score"], scores)
        scores = whole["score"]
        expected = scores < np.float32(threshold)
        np.testing.assert_array_equal(whole["delegate"], expected)
        assert 0 < expected.sum() < len(x)
        for size in (1, 2, 7, 64):
            parts = [
                student.run({"input": x[start : start + size]})
                for start in range(0, len(x), size)
            ]
            for name, array in whole.items():
                found = np.concatenate([part[name] for part in parts])
                np.testing.assert_allclose(
                    found.astype("float32"), array.astype("float32"), atol=1e-5
                )


@pytest.mark.parametrize("mode", MODES)
def test_the_student_is_about_as_accurate_as_in_float(digits, mode):
    """Quantized, at most 2 points are lost; with 60 % zeros, 5."""
    before = accuracy(digits.float_file(), *digits.test)
    after = accuracy(digits.file(mode), *digits.test)
    assert before > 0.9
    assert after >= before - (0.05 if "prune" in mode else 0.02)


@pytest.mark.parametrize("mode", MODES)
def test_training_starts_from_the_cascades_own_loss(digits, mode):
    """Same policy, weights and penalties as `Cascade.compute_loss`."""
    x, y = digits.train
    outputs = {
        "teacher_logits": digits.teacher_logits,
        "student_outputs": digits.cascade.student(x, training=False),
    }
    expected = digits.cascade.compute_loss(x, y, outputs, digits.weight)
    history = digits.optimized(mode).history
    assert list(history) == ["before", *mode.split("+")]
    assert history["before"] == [pytest.approx(float(expected), rel=1e-4)]
    assert all(len(history[stage]) == 3 for stage in mode.split("+"))


@pytest.mark.parametrize("mode", ["qat", "prune+qat", "cluster+qat"])
def test_the_student_is_int8_and_the_gate_is_float(digits, mode):
    for kernel in kernels(digits.file(mode)).values():
        assert kernel.dtype == np.int8
    interpreter = Interpreter(model_path=str(digits.file(mode)))
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert all(one["dtype"] in (np.float32, np.int32) for one in ends)
    scores = StudentInterpreter(digits.file(mode)).run(
        {"input": digits.test[0]}
    )["score"]
    # A softmax of 8 bits would have scores of k / 256 only.
    on_a_grid = np.isclose(scores * 256, np.round(scores * 256), atol=1e-4)
    assert on_a_grid.mean() < 0.5
    assert digits.optimized(mode).left_in_float == []


@pytest.mark.parametrize("mode", ["prune", "prune+qat"])
def test_pruned_weights_are_zero_in_the_file(digits, mode):
    for kernel in kernels(digits.file(mode)).values():
        # TFMOT rounds the number of weights that it keeps.
        assert (kernel == 0).mean() >= SPARSITY - 1 / kernel.size
    found = digits.optimized(mode).sparsity
    assert len(found) == 3 and min(found.values()) > SPARSITY - 0.01
    plain = len(gzip.compress(digits.float_file().read_bytes()))
    # 40 % of the weights, and where they are: at most 32·0.4 + 1 of 32 bits.
    small = len(gzip.compress(digits.file(mode).read_bytes()))
    assert small < 0.6 * plain


def test_clustered_weights_are_few_in_the_file(digits):
    """BatchNormalization is folded first: it would multiply them."""
    for kernel in kernels(digits.file("cluster")).values():
        assert 2 < len(np.unique(kernel)) <= CLUSTERS
    found = digits.optimized("cluster").clusters
    assert len(found) == 3 and max(found.values()) <= CLUSTERS


def test_clusters_survive_quantization(digits):
    """With a scale a channel in convolutions, they are few in each."""
    for kernel in kernels(digits.file("cluster+qat")).values():
        parts = kernel if kernel.ndim == 4 else [kernel]
        assert max(len(np.unique(part)) for part in parts) <= CLUSTERS


def test_this_process_is_left_alone(digits):
    assert digits.optimized("qat").versions["tf_keras"].startswith("2.")
    assert "tensorflow_model_optimization" not in sys.modules
    assert "TF_USE_LEGACY_KERAS" not in os.environ


@pytest.mark.parametrize("mode", ["qat", "prune"])
def test_a_student_that_augments_its_images(mode, tmp_path):
    """What ships answers as the student does in inference."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    # Three brightnesses, which a flip leaves and a contrast hardly moves.
    x = (60 + 60 * y)[:, None, None, None] + rng.normal(0, 20, (240, 8, 8, 3))
    x = x.clip(0, 255).astype("float32")

    def image_model(*augmentation):
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                *augmentation,
                layers.Rescaling(1 / 255.0),
                layers.Conv2D(6, 3, use_bias=False),
                layers.BatchNormalization(momentum=0.8),
                layers.ReLU(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3),
            ]
        )

    teacher = image_model()
    teacher.compile(keras.optimizers.Adam(2e-2), crossentropy())
    teacher.fit(x[:160], y[:160], epochs=20, verbose=0)
    student = image_model(
        layers.RandomFlip(),
        keras.Sequential([layers.RandomContrast(0.1), layers.RandomZoom(0.1)]),
    )
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.Adam(2e-2))
    cascade.fit(x[:160], y[:160], epochs=20, verbose=0)
    cascade.calibrate(
        (x[160:], y[160:]), kc.MaxDelegationRate(0.5, tolerance=1.0)
    )
    optimization = {"epochs": 1, "learning_rate": 1e-4, "sparsity": 0.1}
    path = tmp_path / "student.tflite"
    cascade.export(
        path, format="litert", quantization=mode,
        training_data=(x[:160], y[:160]), optimization=optimization,
    )  # fmt: skip
    shipped = StudentInterpreter(path).run({"input": x[160:]})["probabilities"]
    expected = cascade.predict(x[160:], verbose=0)["probabilities"]
    assert np.abs(shipped - expected).sum(axis=1).mean() / 2 < 0.1
    assert (shipped.argmax(axis=1) == y[160:]).mean() > 0.9


def test_what_is_wrong_is_said_before_the_teacher_runs(blobs):
    """A pass over all training examples may take hours."""
    x, y = blobs(256)

    class CountedTeacher(keras.Model):
        rows = 0

        def call(self, inputs):
            CountedTeacher.rows += 1
            return 3.0 * inputs[:, :4]

    class Own(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=())

        def call(self, inputs):
            return inputs * self.scale

    @keras.saving.register_keras_serializable("tests")
    class Sorted(layers.Layer):
        def call(self, inputs):
            return keras.ops.sort(inputs)

    class Kept(layers.Layer):
        def __init__(self, something):
            super().__init__()

        def call(self, inputs):
            return keras.ops.sort(inputs)

    def cascade_of(*first):
        student = keras.Sequential([keras.Input((6,)), *first, layers.Dense(4)])
        cascade = kc.Cascade(CountedTeacher(), student)
        cascade.prepare(x)
        CountedTeacher.rows = 0
        return cascade

    for mode, layer, options, error, message in (
        ("prune", Own(name="mine"), {}, ExportError,
         "'mine'.*is no layer of Keras"),
        ("prune", Sorted(name="mine"), {}, ExportError,
         r"'mine' \(Sorted\).*'dynamic'"),
        ("qat", Kept([]), {}, ExportError,
         r"layer 'kept\w*' \(Kept\).*get_config"),
        ("qat", layers.ReLU(), {"epochs": 0}, ValueError, "Expected `epochs`"),
        ("qat", layers.ReLU(), {"epoch": 1}, ValueError,
         r"out of .*'epochs'.*epoch"),
    ):  # fmt: skip
        cascade = cascade_of(layer)
        with pytest.raises(error, match=message):
            ExportJob(
                cascade, (x, y), quantization=mode,
                training_data=(x, y), optimization=options,
            ).student_artifact()  # fmt: skip
        assert CountedTeacher.rows == 0


@pytest.fixture
def abstaining(blobs, dense_model):
    """An abstain student on 3 of 4 classes, with the data of its training."""
    x, y = blobs(256)
    policy = kc.distillation.AbstainDistillation([0, 2, 3])
    student = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, activation="relu"),
            policy.student_head(),
        ]
    )
    cascade = kc.Cascade(dense_model(16), student, policy, gate="abstain")
    cascade.compile(keras.optimizers.Adam(1e-2))
    cascade.fit(x, y, epochs=5, verbose=0)
    return cascade, x, y, cascade.teacher.predict(x, verbose=0)


def test_an_abstain_student_and_the_same_file_twice(
    abstaining, blobs, tmp_path
):
    cascade, x, y, teacher_logits = abstaining
    before = cascade.student.get_weights()
    found = [
        optimize_student(
            cascade, "qat", x, y, teacher_logits, Signature(x), epochs=1
        )
        for _ in range(2)
    ]
    assert found[0].history == found[1].history
    contents = [one.convert(0.25) for one in found]
    assert contents[0] == contents[1]
    assert cascade.threshold != 0.25
    for one, other in zip(before, cascade.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    file = tmp_path / "student.tflite"
    file.write_bytes(contents[0])
    held_out, _ = blobs(100, seed=5)
    shipped = StudentInterpreter(file).run({"input": held_out})
    assert shipped["probabilities"].shape == (100, 4)
    expected = cascade.predict(held_out, verbose=0)["score"]
    assert np.corrcoef(shipped["score"], expected)[0, 1] > 0.99


def test_integers_a_mask_and_a_gate_that_sees_a_layer(dense_model, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 30, (300, 8)).astype("int32")
    y = (x[:, :4] > 14).sum(axis=1).clip(0, 3).astype("int32")

    def text_model(units):
        inputs = keras.Input((8,), dtype="int32")
        words = layers.Embedding(30, units, mask_zero=True, name="words")
        mean = layers.GlobalAveragePooling1D(name="mean")(words(inputs))
        seen = layers.Dense(units, activation="relu", name="seen")(mean)
        return keras.Model(inputs, layers.Dense(4)(seen))

    gate = kc.gates.LearnedGate(student_layers=["mean", "seen"])
    teacher = text_model(16)
    teacher.compile(keras.optimizers.Adam(2e-2), crossentropy())
    teacher.fit(x[:200], y[:200], epochs=20, verbose=0)
    cascade = kc.Cascade(teacher, text_model(8), gate=gate)
    cascade.compile(keras.optimizers.Adam(2e-2))
    cascade.fit(x[:200], y[:200], epochs=15, verbose=0)
    cascade.fit_gate((x[200:], y[200:]))
    optimized = optimize_student(
        cascade, "qat", x[:200], y[:200],
        teacher.predict(x[:200], verbose=0), Signature(x), epochs=2,
    )  # fmt: skip
    assert optimized.left_in_float == [
        ("words", "takes integers"),
        ("mean", "takes a mask"),
    ]
    file = tmp_path / "student.tflite"
    file.write_bytes(optimized.content())
    shipped = StudentInterpreter(file).run({"input": x})
    np.testing.assert_array_equal(
        shipped["delegate"], shipped["score"] < np.float32(cascade.threshold)
    )
    expected = cascade.predict(x, verbose=0)
    agree = shipped["probabilities"].argmax(axis=1) == expected[
        "probabilities"
    ].argmax(axis=1)
    kept = ~expected["delegated"]
    assert agree[kept].mean() > 0.85
    assert np.corrcoef(shipped["score"], expected["score"])[0, 1] > 0.8


def test_the_child_stops_with_its_parent(abstaining, tmp_path):
    """What it was given would take days; its parent's pipe closes at once."""
    cascade, x, y, teacher_logits = abstaining
    graph = StudentGraph(cascade.student, x[:8])
    job = {
        "mode": "qat", "epochs": 10_000_000, "batch_size": 32,
        "learning_rate": 1e-3, "sparsity": 0.5, "clusters": 4, "seed": 0,
        "policy": keras.saving.serialize_keras_object(cascade.distillation),
        "tolerance": 1e-5, "path": [],
    }  # fmt: skip
    write_job(tmp_path, job, graph)
    write_examples(tmp_path, graph, x, y, teacher_logits, None)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "keras_cascade.export.optimization.child",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = process.communicate()  # closes its input first
    assert process.returncode == 1
    assert b"Traceback" not in errors


def test_a_child_that_fails_is_quoted(tmp_path):
    with pytest.raises(ExportError, match=r"status 1.*(?s:.*)job\.json"):
        run_child(tmp_path)


def test_a_policy_that_cannot_be_imported(abstaining):
    cascade, x, y, teacher_logits = abstaining

    @keras.saving.register_keras_serializable("tests")
    class Own(kc.distillation.AbstainDistillation):
        pass

    cascade.distillation = Own([0, 2, 3])
    with pytest.raises(ExportError, match=r"module that can be imported.*Own"):
        optimize_student(
            cascade, "prune", x, y, teacher_logits, Signature(x), epochs=1
        )


def error_of(student, inputs, **kwargs):
    with pytest.raises(ExportError) as caught:
        StudentGraph(student, inputs, **kwargs)
    return str(caught.value)


def test_layers_that_cannot_be_rebuilt_are_named():
    x = np.ones((2, 6), "float32")

    @keras.saving.register_keras_serializable("tests")
    class Scaled(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=())

        def call(self, inputs):
            return inputs * self.scale

    own = keras.Sequential(
        [keras.Input((6,)), Scaled(name="mine"), layers.Dense(4)]
    )
    assert "layer 'mine' (Scaled) is no layer of Keras" in error_of(own, x)

    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="again")
    twice = keras.Model(inputs, shared(shared(inputs)))
    assert "'again' (Dense) is called more than once" in error_of(twice, x)

    sorted_model = keras.Model(inputs, keras.ops.sort(inputs))
    assert "(Sort) has no layer" in error_of(sorted_model, x)

    def doubled(x):
        return x * 2

    odd = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, doubled, name="odd")]
    )
    assert "'odd' (Dense) has an activation of its own" in error_of(odd, x)

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    message = error_of(Subclassed(), x)
    assert "Sequential or Functional" in message and "Subclassed" in message
    inner = keras.Model(inputs, Subclassed(name="inside")(inputs))
    assert "'inside' (Subclassed) is a subclassed model" in error_of(inner, x)
    plain = keras.Model(inputs, layers.Dense(4, name="top")(inputs))
    message = error_of(plain, x, features=["deep"])
    assert "layers ['deep']" in message and "'top'" in message


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mode": "int4"}, "Expected `mode`"),
        ({"epochs": 0}, "Expected `epochs` to be an integer >= 1"),
        ({"clusters": 1}, "Expected `clusters` to be an integer >= 2"),
        ({"sparsity": 1.0}, "Expected `sparsity` to be a number between"),
        ({"learning_rate": float("nan")}, "Expected `learning_rate`"),
        ({"labels": np.full(256, 4)}, "Received labels from 4 to 4"),
        ({"labels": np.zeros(9)}, "Received lengths"),
        ({"sample_weight": np.ones(3)}, "Received lengths"),
    ],
)
def test_bad_arguments(abstaining, kwargs, message):
    cascade, x, y, teacher_logits = abstaining
    arguments = {
        "mode": "qat", "inputs": x, "labels": y, "signature": Signature(x),
        "teacher_logits": teacher_logits, **kwargs,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        optimize_student(cascade, **arguments)


def test_policies_that_compare_layers_are_refused(abstaining):
    cascade, x, y, teacher_logits = abstaining
    loss = keras.distillation.FeatureDistillation(
        teacher_layer_name="dense", student_layer_name="dense_2"
    )
    cascade.distillation = kc.distillation.CombinedDistillation(
        cascade.distillation, [loss]
    )
    with pytest.raises(ValueError, match="trains from cached logits"):
        optimize_student(cascade, "qat", x, y, teacher_logits, Signature(x))

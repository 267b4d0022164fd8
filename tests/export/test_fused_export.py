"""The whole cascade as one SavedModel, against `predict` and by itself."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import BundleError
from keras_cascade.export import ExportError

tf = pytest.importorskip("tensorflow")


@keras.saving.register_keras_serializable("tests")
class CountRows(keras.layers.Layer):
    """Adds the number of rows that it sees to the first logit."""

    def call(self, inputs):
        rows = keras.ops.cast(keras.ops.shape(inputs)[0], "float32")
        first = keras.ops.one_hot(0, 4, dtype="float32")
        return inputs + rows * first


def models(dense_model):
    return dense_model(units=16), dense_model(units=5)


def cascade_of(teacher, student, x, share=0.5):
    cascade = kc.Cascade(teacher, student)
    scores = cascade.predict(x, verbose=0)["score"]
    cascade.threshold = float(np.quantile(scores, share))
    return cascade


def serving_default(folder):
    loaded = tf.saved_model.load(str(folder))
    return loaded.signatures["serving_default"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_answers_as_predict_does(dense_model, blobs, tmp_path, share):
    x = blobs(90)[0]
    cascade = cascade_of(*models(dense_model), x, share)
    if share == 1.0:
        cascade.threshold = float(np.finfo("float32").max)
    expected = cascade.predict(x, verbose=0)
    assert expected["delegated"].mean() == pytest.approx(share, abs=0.02)
    cascade.export(tmp_path / "fused", format="tf_saved_model")
    run = serving_default(tmp_path / "fused")
    for rows in (1, 2, 7, 64, 90):
        found = run(input=tf.constant(x[:rows]))
        assert set(found) == {"probabilities", "score", "delegate"}
        np.testing.assert_array_equal(
            found["delegate"], expected["delegated"][:rows]
        )
        for name in ("probabilities", "score"):
            np.testing.assert_allclose(
                found[name], expected[name][:rows], atol=1e-5
            )


def test_the_teacher_sees_the_delegated_rows_only(dense_model, blobs, tmp_path):
    x = blobs(40)[0]
    inputs = keras.Input((6,))
    logits = keras.layers.Dense(4)(inputs)
    cascade = cascade_of(
        keras.Model(inputs, CountRows()(logits)), dense_model(units=5), x
    )
    plain = keras.Model(inputs, logits)
    # Of rows that depend on their neighbours no export can guarantee anything.
    with pytest.raises(ExportError, match="does not answer as Keras"):
        cascade.export(tmp_path / "fused", format="tf_saved_model")
    assert list(tmp_path.iterdir()) == []

    from keras_cascade.export.fused_export import fused

    outputs = fused(
        cascade, cascade.two_stage_pass().student_with_gate, tf.constant(x)
    )
    delegated = outputs["delegate"].numpy().astype(bool)
    assert 10 < delegated.sum() < 30
    expected = plain.predict(x[delegated], verbose=0)
    expected[:, 0] += delegated.sum()
    np.testing.assert_allclose(
        outputs["probabilities"].numpy()[delegated],
        keras.ops.softmax(expected),
        atol=1e-5,
    )


def test_the_other_signatures(dense_model, blobs, tmp_path):
    x = blobs(30)[0]
    cascade = cascade_of(*models(dense_model), x)
    cascade.export(tmp_path / "fused", format="tf_saved_model")
    loaded = tf.saved_model.load(str(tmp_path / "fused"))
    np.testing.assert_allclose(
        loaded.signatures["teacher"](input=tf.constant(x))["logits"],
        cascade.teacher.predict(x, verbose=0),
        atol=1e-5,
    )
    student = loaded.signatures["student"](input=tf.constant(x))
    np.testing.assert_allclose(
        student["probabilities"],
        keras.ops.softmax(cascade.student.predict(x, verbose=0)),
        atol=1e-5,
    )


def test_three_stages(dense_model, blobs, tmp_path):
    x = blobs(80)[0]
    inner = cascade_of(dense_model(units=16), dense_model(units=8), x)
    outer = cascade_of(inner, dense_model(units=5), x)
    outer.export(tmp_path / "fused", format="tf_saved_model")
    found = serving_default(tmp_path / "fused")(input=tf.constant(x))
    expected = outer.predict(x, verbose=0)
    np.testing.assert_allclose(
        found["probabilities"], expected["probabilities"], atol=1e-5
    )


def test_named_inputs(tmp_path):
    def model(units):
        inputs = {n: keras.Input((3,), name=n) for n in ("left", "right")}
        joined = keras.layers.Concatenate()(list(inputs.values()))
        x = keras.layers.Dense(units, activation="relu")(joined)
        return keras.Model(inputs, keras.layers.Dense(4)(x))

    x = {
        name: np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
        for name in ("left", "right")
    }
    cascade = cascade_of(model(8), model(3), x)
    cascade.export(tmp_path / "fused", format="tf_saved_model")
    found = serving_default(tmp_path / "fused")(
        **{name: tf.constant(values) for name, values in x.items()}
    )
    expected = cascade.predict(x, verbose=0)
    np.testing.assert_allclose(
        found["probabilities"], expected["probabilities"], atol=1e-5
    )


def test_what_is_there_is_kept(dense_model, blobs, tmp_path):
    x = blobs(20)[0]
    cascade = kc.Cascade(*models(dense_model))
    folder = tmp_path / "fused"
    with pytest.raises(ValueError, match="has seen none yet"):
        cascade.export(folder, format="tf_saved_model")
    cascade.predict(x, verbose=0)
    cascade.export(folder, format="tf_saved_model")
    before = sorted(folder.rglob("*"))
    with pytest.raises(BundleError, match="exists already"):
        cascade.export(folder, format="tf_saved_model")
    assert sorted(folder.rglob("*")) == before
    cascade.export(folder, format="tf_saved_model", overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"with saved_model\.pb"):
        cascade.export(other, format="tf_saved_model", overwrite=True)
    assert (other / "letter.txt").read_text() == "mine"

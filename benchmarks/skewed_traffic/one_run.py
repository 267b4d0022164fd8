"""Training of one student, measured after several numbers of epochs."""

import keras
import numpy as np

import keras_cascade as kc
from keras_cascade.utils.numpy_softmax import numpy_softmax

#: Delegation rates.
RATES = (0.1, 0.2, 0.3)
BATCH = 512
#: Width -> learning rate and the numbers of epochs, the same for every method;
#: chosen with cross-entropy alone.
TRAINING = {
    2: (0.1, (10, 20, 30)),
    4: (0.03, (10, 20, 30)),
    8: (0.03, (10, 20, 30)),
    16: (0.03, (5, 10, 20)),
}
NOT_COUNTED = kc.evaluation.Costs(0.0, 1.0, "teacher passes", "not measured")


def run(task, policy, width, epochs):
    """Trains a student and measures it during training.

    Args:
        task: `Task`.
        policy: `DistillationPolicy`.
        width: int, units of the bottleneck.
        epochs: ints, ascending: the numbers after which it is measured.

    Returns:
        Dict of a number of epochs to a dict of gate to
        `{"validation": accuracies, "test": accuracies}`: cascade accuracy,
        under the traffic, at each of `RATES`. The gates are `"margin"`, and
        for an abstain student also `"abstain"`.
    """
    keras.utils.set_random_seed(task.seed)
    student = kc.models.text_bag(
        task.words,
        policy.student_outputs(task.classes),
        task.train.token_ids.shape[1],
        width=width,
        buckets=0,
    )
    cascade = _cascade(task, student, policy, TRAINING[width][0])
    result, done = {}, 0
    for number in epochs:
        cascade.fit(
            _inputs(task.train),
            task.train.labels,
            traffic=task.mix,
            batch_size=BATCH,
            epochs=number - done,
            verbose=0,
        )
        done = number
        result[number] = {}
        for name in ("validation", "test"):
            part = getattr(task, name)
            measured = _accuracies(task, part, student, cascade.gate)
            for gate, accuracies in measured.items():
                result[number].setdefault(gate, {})[name] = accuracies
    return result


def signed_margin(probabilities, answers):
    """Margin of each answer over all other outputs, in [-1, 1].

    The margin of an answer that is the top output. Negative where the abstain
    output is above the answer.

    Args:
        probabilities: float array `(examples, outputs)`.
        answers: int array `(examples,)`, one output per example.

    Returns:
        Float array `(examples,)`.
    """
    rows = np.arange(len(answers))
    others = probabilities.copy()
    others[rows, answers] = -np.inf
    return probabilities[rows, answers] - others.max(axis=1)


def accuracies_at(scores, student_right, teacher_right, weight):
    """Computes the cascade accuracy at each of `RATES`, interpolating ties."""
    curve = kc.evaluation.deferral_curve(
        scores, student_right, teacher_right, weight
    )
    return np.interp(RATES, curve.delegation_rate, curve.accuracy)


def _cascade(task, student, policy, learning_rate):
    """Builds a cascade whose teacher's logits are an input."""
    length = student.input_shape[1]
    inputs = {
        "token_ids": keras.Input((length,), dtype="int32", name="token_ids"),
        "teacher_logits": keras.Input((task.classes,), name="teacher_logits"),
    }
    answer = keras.layers.Identity()(inputs["teacher_logits"])
    abstains = student.output_shape[1] != task.classes
    cascade = kc.Cascade(
        keras.Model(inputs, answer),
        keras.Model(inputs, student(inputs["token_ids"])),
        distillation=policy,
        gate="abstain" if abstains else "margin",
        costs=NOT_COUNTED,
    )
    cascade.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        steps_per_execution=-(-len(task.train.labels) // BATCH),
    )
    return cascade


def _inputs(part):
    return {
        "token_ids": part.token_ids,
        "teacher_logits": part.teacher_logits,
    }


def _accuracies(task, part, student, gate):
    outputs = np.asarray(student(part.token_ids, training=False))
    answers = outputs.argmax(axis=1)
    named, scores = answers, {}
    if outputs.shape[1] != task.classes:  # the last output abstains
        answers = outputs[:, :-1].argmax(axis=1)
        named = np.array(task.head)[answers]
        scores["abstain"] = np.asarray(gate(outputs))
    scores["margin"] = signed_margin(numpy_softmax(outputs), answers)
    teacher_right = part.teacher_logits.argmax(axis=1) == part.labels
    weight = task.mix.weights(part.labels)
    return {
        name: accuracies_at(
            score, named == part.labels, teacher_right, weight
        ).tolist()
        for name, score in scores.items()
    }

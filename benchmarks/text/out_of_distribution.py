"""Detection by gates of intents that are left out of training."""

import keras
import numpy as np

import keras_cascade as kc

UNKNOWN, REJECTED = 10, 10
EPOCHS, QUICK_EPOCHS = 20, 2
GATES = ("margin", "max_probability", "entropy", "energy")
SHARE, CONFIDENCE = 0.8, 0.95


def out_of_distribution(data, tokens, quick, seed=0):
    """AUROC of every gate, and of a reject class.

    Ten intents are left out of training. Ten more are only known as "none of
    the others", to a student with one output for them; the rest is in
    distribution.

    Args:
        data: `Banking77`.
        tokens: int, of the vocabulary.
        quick: bool.
        seed: int. Defaults to `0`.

    Returns:
        Dict of gate to its numbers on the test questions.
    """
    order = np.random.default_rng(seed).permutation(len(data.names))
    unknown = order[:UNKNOWN]
    known_classes = np.sort(order[UNKNOWN + REJECTED :])
    # Known classes from 0; all that is rejected is the last class.
    numbers = np.full(len(data.names), len(known_classes))
    numbers[known_classes] = np.arange(len(known_classes))
    texts = np.array(data.train_texts, dtype=object)
    known = ~np.isin(data.train_labels, unknown)
    tokenizer = kc.text.train_tokenizer(texts[known], tokens)
    test = np.array(data.test_texts, dtype=object)
    in_distribution = test[np.isin(data.test_labels, known_classes)]
    ood = test[np.isin(data.test_labels, unknown)]
    found = {}

    def trained(gates, rows, classes):
        keras.utils.set_random_seed(seed)
        student = kc.text.TextModel(
            kc.models.text_bag(
                tokenizer.vocabulary_size, classes, width=64, dropout=0.5
            ),
            tokenizer,
        )
        student.compile(
            keras.optimizers.Adam(5e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        student.fit(
            texts[rows],
            numbers[data.train_labels[rows]],
            batch_size=64,
            epochs=QUICK_EPOCHS if quick else EPOCHS,
            verbose=0,
        )
        logits = [
            student.predict(some, batch_size=256, verbose=0)
            for some in (in_distribution, ood)
        ]
        for name, gate in gates.items():
            found[name] = _measured(gate, *logits)

    known_rows = np.isin(data.train_labels, known_classes)
    trained(
        {name: kc.gates.get(name) for name in GATES},
        known_rows,
        len(known_classes),
    )
    abstain = kc.gates.AbstainGate(in_domain_classes=range(len(known_classes)))
    trained({"reject class": abstain}, known, len(known_classes) + 1)
    return found


def _measured(gate, in_distribution, ood):
    scores, ood = (np.asarray(gate(some)) for some in (in_distribution, ood))
    # A threshold from one half of the OOD questions, tried on the other.
    threshold = kc.evaluation.threshold_against(ood[::2], SHARE, CONFIDENCE)
    tried = kc.evaluation.out_of_distribution(scores, ood[1::2], threshold)
    every = kc.evaluation.out_of_distribution(scores, ood, threshold)
    return {
        "auroc": every.auroc,
        "delegated": tried.delegated,
        "delegated_in_distribution": tried.delegation_rate,
    }

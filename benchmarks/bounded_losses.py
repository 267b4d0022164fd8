"""Guarantees on mean losses in [0, 1]: several labels, and regression.

A table of examples is the truth: calibration sets are drawn from it with
replacement, or are a part of a real set that is compared with the rest. Each
limit is the loss, or its increase over the teacher's, of delegating a fixed
share: the best threshold is known.
"""

import numpy as np
from scipy import special
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import keras_cascade as kc
from keras_cascade.calibration import fit_threshold
from keras_cascade.evaluation import delegated_at
from keras_cascade.evaluation.sorted_examples import SortedExamples

ERROR = 0.05
NORMAL = 1.6449  # the normal law's 0.95 quantile
LABELS = 20
ROWS = 50_000
#: Share of examples that the limits allow to delegate at the least.
BEST_RATE = 0.3
#: Weight of each tenth of the examples under uneven traffic.
WEIGHTS = np.array([16.0] * 2 + [1.0] * 8)
#: Share of a real set that calibrates; the rest is the truth.
PART = 0.2
#: What a digit is, of real pictures of digits: four labels of one picture.
DIGIT_LABELS = {
    "even": (0, 2, 4, 6, 8),
    "at least 5": (5, 6, 7, 8, 9),
    "prime": (2, 3, 5, 7),
    "has a loop": (0, 6, 8, 9),
}


class LossTable:
    """Losses of student and teacher on examples that are the truth.

    Args:
        scores: float array `(rows,)`.
        student: array `(rows,)` of losses in [0, 1].
        teacher: array `(rows,)` of losses in [0, 1].
        weight: float array `(rows,)`, or `None`.
    """

    def __init__(self, scores, student, teacher, weight=None):
        self.columns = (scores, student, teacher)
        self.weight = weight
        share = np.ones(len(scores)) if weight is None else weight
        self.share = share / share.sum()
        self.size = len(scores)

    def part(self, rows):
        """`LossTable` of some rows."""
        weight = None if self.weight is None else self.weight[rows]
        return LossTable(*(column[rows] for column in self.columns), weight)

    def fit(self, objective, **kwargs):
        """`OperatingPoint` of an objective on these examples."""
        scores, student, teacher = self.columns
        return fit_threshold(
            scores,
            1 - np.asarray(student, "float64"),
            1 - np.asarray(teacher, "float64"),
            objective,
            self.weight,
            **kwargs,
        )

    def at(self, quantity, threshold):
        """`(rate, mean)` at a threshold."""
        scores, student, teacher = self.columns
        delegated = delegated_at(scores, threshold)
        value = np.where(delegated, 1.0 * teacher, student)
        if quantity == "loss_increase":
            value = value - teacher
        return self.share[delegated].sum(), self.share @ value

    def along(self, quantity):
        """Sorted examples; rate, mean and its spread at every threshold.

        The spread is the standard deviation of the estimate of the mean,
        times the root of the number of examples.
        """
        scores, student, teacher = self.columns
        examples = SortedExamples(scores, student == 0, teacher == 0)
        student, teacher, share = (
            np.asarray(column, "float64")[examples.order]
            for column in (student, teacher, self.share)
        )
        if quantity == "loss_increase":
            student, teacher = student - teacher, np.zeros(self.size)

        def total(factor, power):
            return examples.kept(factor * student**power) + examples.delegated(
                factor * teacher**power
            )

        mean = total(share, 1)
        squares = share**2
        # Σ share² (value - mean)², of weights that sum to 1.
        variance = (
            total(squares, 2)
            - 2 * mean * total(squares, 1)
            + mean**2 * squares.sum()
        )
        spread = np.sqrt(np.maximum(variance, 0) * self.size)
        return examples, examples.delegated(share), mean, spread


class LossCase:
    """An objective with the truth about it on a table.

    Args:
        make: `kc.MaxExpectedLoss` or `kc.MaxLossIncrease`.
        table: `LossTable`.
        rate: float, the delegation rate whose mean is the limit.
    """

    def __init__(self, make, table, rate):
        self.quantity = make.quantity
        self._examples, self._rates, self._means, self._spreads = table.along(
            make.quantity
        )
        index = np.searchsorted(self._rates, rate)
        self.limit = float(self._means[index])
        self.objective = make(self.limit, confidence=1 - ERROR)
        self._best = self._least(0.0)
        self._sets, self._broken, self._refused = 0, 0, 0
        self._wasted = []

    def _least(self, deviations):
        """Least rate whose mean is so far below the limit."""
        margin = self.limit - self._means - deviations * self._spreads
        return self._rates[margin >= -1e-12].min(initial=1.0)

    def add(self, sample, seed, rest=None):
        """Fits one calibration set and compares with the truth.

        Args:
            sample: `LossTable`.
            seed: int.
            rest: `LossTable` that is the truth. Defaults to `None`: the
                table of the case.
        """
        self._sets += 1
        try:
            point = sample.fit(self.objective, seed=seed)
        except ValueError:
            self._refused += 1
            self._wasted.append(1.0 - self._best)
            return
        if rest is None:
            index = self._examples.candidate_of(point.threshold)
            rate, mean = self._rates[index], self._means[index]
        else:
            rate, mean = rest.at(self.quantity, point.threshold)
        self._broken += mean > self.limit + 1e-12
        self._wasted.append(max(rate - self._best, 0.0))

    def result(self, size):
        """Returns a JSON-compatible dict."""
        limit = ERROR + 2 * (ERROR * (1 - ERROR) / self._sets) ** 0.5
        broken = float(self._broken / self._sets)
        return {
            "sets": self._sets,
            "broken_share": broken,
            "broken_limit": limit,
            "holds": bool(broken <= limit),
            "refused": self._refused / self._sets,
            "wasted_delegation": 100 * float(np.mean(self._wasted)),
            "unavoidable": 100
            * float(self._least(NORMAL / np.sqrt(size)) - self._best),
        }


def cases(losses, scores, weight=None, rate=BEST_RATE):
    """Dict of name to `(LossCase, LossTable)`, two objectives per loss.

    Args:
        losses: dict of loss name to the losses of student and teacher.
        scores: float array `(rows,)`.
        weight: float array `(rows,)`, or `None`.
        rate: float, the least delegation rate that the limits allow.
    """
    made = {}
    for name, columns in losses.items():
        table = LossTable(scores, *columns, weight)
        for make in (kc.MaxExpectedLoss, kc.MaxLossIncrease):
            case = LossCase(make, table, rate)
            made[f"{make.__name__}, {name}"] = case, table
    return made


def multilabel_answers(right, student, teacher):
    """Losses of answers with several labels.

    Args:
        right: bool array `(rows, labels)`.
        student: bool array `(rows, labels)`.
        teacher: bool array `(rows, labels)`.

    Returns:
        Dict of loss name to the losses of student and teacher: Hamming, the
        share of labels that are wrong; false negatives, the share of an
        example's labels that are missed, 0 where it has none; example-wise, 1
        where any label is wrong.
    """
    count = np.maximum(right.sum(axis=1), 1)
    pairs = {"Hamming": [], "false negatives": [], "example-wise": []}
    for answer in (student, teacher):
        pairs["Hamming"].append((answer != right).mean(axis=1))
        missed = (right & ~answer).sum(axis=1)
        pairs["false negatives"].append(missed / count)
        pairs["example-wise"].append((answer != right).any(axis=1) * 1.0)
    return pairs


def synthetic_multilabel(rows=ROWS, seed=0):
    """Population of 20 labels whose errors are correlated.

    Errors of an example's labels share a cause, and the teacher's have part
    of the student's. Both models err more where the score is low.

    Returns:
        `(losses, scores)`.
    """
    rng = np.random.default_rng(seed)
    scores = rng.random(rows)
    prevalence = np.geomspace(0.3, 0.02, LABELS)
    right = rng.random((rows, LABELS)) < prevalence

    def noise(common, own):
        shared = rng.standard_normal((rows, 1))
        single = rng.standard_normal((rows, LABELS))
        return np.sqrt(common) * shared + np.sqrt(own) * single

    student = noise(0.4, 0.6)
    teacher = 0.6 * student + 0.8 * noise(0.4, 0.6)
    hardness = ((1 - scores) ** 2)[:, None]
    # Labels that are there are missed more often than others are added.
    factor = np.where(right, 3.0, 1.0)
    wrong = [
        special.ndtr(latent) < np.minimum(share * hardness * factor, 0.9)
        for latent, share in ((student, 0.16), (teacher, 0.05))
    ]
    return (
        multilabel_answers(right, right ^ wrong[0], right ^ wrong[1]),
        scores.astype("float32"),
    )


def regression_losses(student, teacher, tolerance, bound):
    """Losses of errors: beyond a tolerance, and up to a bound."""
    pairs = {"beyond tolerance": [], "bounded error": []}
    for error in (np.abs(student), np.abs(teacher)):
        pairs["beyond tolerance"].append((error > tolerance) * 1.0)
        pairs["bounded error"].append(np.minimum(error, bound) / bound)
    return pairs


def synthetic_regression(rows=ROWS, seed=1):
    """Population of errors whose spread the student predicts, with noise.

    Returns:
        `(losses, scores)`, the score being the negative predicted spread.
    """
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(-1.2, 0.8, rows))
    student = spread * rng.standard_t(5, rows)
    own = 0.35 * spread**0.5 * rng.standard_normal(rows)
    teacher = 0.3 * student + 0.4 * own
    predicted = spread * np.exp(rng.normal(0, 0.3, rows))
    return (
        regression_losses(student, teacher, tolerance=0.8, bound=2.0),
        (-predicted).astype("float32"),
    )


def digit_labels():
    """Four labels of each of scikit-learn's 1,797 pictures of digits.

    The student is a logistic regression on sums of rows and columns, the
    teacher a support vector machine on all pixels; both answer by
    cross-fitting. The score is the distance of the least sure label from 0.5.
    """
    x, digit = load_digits(return_X_y=True)
    right = np.stack(
        [np.isin(digit, digits) for digits in DIGIT_LABELS.values()], axis=1
    )
    pixels = x.reshape(-1, 8, 8) / 16
    sums = np.concatenate([pixels.sum(axis=1), pixels.sum(axis=2)], axis=1)
    folds = KFold(5, shuffle=True, random_state=0)
    probabilities = cross_val_predict(
        MultiOutputClassifier(LogisticRegression(max_iter=1000)),
        sums, right, cv=folds, method="predict_proba",
    )  # fmt: skip
    positive = np.stack([one[:, 1] for one in probabilities], axis=1)
    teacher = cross_val_predict(
        MultiOutputClassifier(SVC()), x, right, cv=folds
    )
    scores = np.abs(positive - 0.5).min(axis=1)
    losses = multilabel_answers(right, positive > 0.5, teacher.astype(bool))
    return losses, scores


def _regression_set(x_student, x_teacher, y, tolerance, bound):
    """Cross-fitted errors of a linear student and a forest as teacher."""
    folds = KFold(5, shuffle=True, random_state=0)
    student = Ridge()
    error = cross_val_predict(student, x_student, y, cv=folds) - y
    spread = np.empty(len(y))
    for inside, outside in folds.split(y):
        # Of errors on the training part, which are cross-fitted themselves.
        inner = cross_val_predict(
            clone(student), x_student[inside], y[inside], cv=5
        )
        sizes = np.abs(inner - y[inside])
        linear = LinearRegression().fit(x_student[inside], sizes)
        spread[outside] = linear.predict(x_student[outside])
    forest = RandomForestRegressor(60, random_state=0)
    of_teacher = cross_val_predict(forest, x_teacher, y, cv=folds) - y
    losses = regression_losses(error, of_teacher, tolerance, bound)
    return losses, -spread


def digit_ink():
    """Ink in the lower half of a picture of a digit, from its upper half."""
    x, _ = load_digits(return_X_y=True)
    pixels = x.reshape(-1, 8, 8) / 16
    upper, lower = pixels[:, :4], pixels[:, 4:]
    ink = lower.sum(axis=(1, 2))
    return _regression_set(
        upper.sum(axis=2), upper.reshape(-1, 32), ink, tolerance=2.5, bound=6.0
    )


def on_loss_population(make, sets, size, weighted=False):
    """Broken shares over calibration sets drawn from a population.

    Args:
        make: function that returns `(losses, scores)`.
        sets: int.
        size: int, examples of a calibration set.
        weighted: bool, uneven traffic. Defaults to `False`.
    """
    losses, scores = make()
    rng = np.random.default_rng(6)
    weight = None
    if weighted:
        weight = WEIGHTS[rng.integers(0, len(WEIGHTS), len(scores))]
    made = cases(losses, scores, weight)
    for seed in range(sets):
        rows = rng.integers(0, len(scores), size)
        for case, table in made.values():
            case.add(table.part(rows), seed)
    return {name: case.result(size) for name, (case, _) in made.items()}


def on_loss_resplits(make, splits):
    """Broken shares of random parts of real examples against the rest."""
    with threadpool_limits(1):  # models this small only lose by more
        losses, scores = make()
    made = cases(losses, scores)
    rng = np.random.default_rng(7)
    size = round(PART * len(scores))
    for seed in range(splits):
        order = rng.permutation(len(scores))
        for case, table in made.values():
            rest = table.part(order[size:])
            case.add(table.part(order[:size]), seed, rest)
    return {name: case.result(size) for name, (case, _) in made.items()}


def loss_scenarios(sets, splits, size):
    """Dict of scenario to the results of its objectives."""
    return {
        "losses, 20 labels": on_loss_population(
            synthetic_multilabel, sets, size
        ),
        "losses, 20 labels, uneven traffic": on_loss_population(
            synthetic_multilabel, sets // 2, size, weighted=True
        ),
        "losses, regression": on_loss_population(
            synthetic_regression, sets, size
        ),
        "losses, regression, uneven traffic": on_loss_population(
            synthetic_regression, sets // 2, size, weighted=True
        ),
        "losses, labels of digits": on_loss_resplits(digit_labels, splits),
        "losses, ink of digits": on_loss_resplits(digit_ink, splits),
    }

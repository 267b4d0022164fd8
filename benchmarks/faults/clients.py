"""Edge cascades under load, with every row of every answer checked."""

import collections
import itertools
import threading

import numpy as np

from keras_cascade.runtime import EdgeCascade, TeacherError

TOLERANCE = 1e-3
EXPECTED = {
    "answer": "edge_fallback",
    "abstain": "abstained",
    "queue": "queued",
}


class Truth:
    """Expected answers of student and teacher on a pool of examples.

    Args:
        bundle: path.
        x: array `(examples, ...)`.
        teacher_probabilities: array `(examples, classes)`.
    """

    def __init__(self, bundle, x, teacher_probabilities):
        self.x = x
        self.teacher = teacher_probabilities
        with EdgeCascade.load(bundle) as edge:
            alone = edge.predict(x)
            self.student = edge.predict_alone(x).probabilities
        self.delegated = alone.source != "edge"


class Client:
    """Edge cascade with one policy, and the outcomes of its requests.

    Args:
        name: str.
        edge: `EdgeCascade`.
        truth: `Truth`.

    Attributes:
        counts: `Counter`: `requests`, `lost`, `mislabelled`, `crashes`,
            `refused` (a `TeacherError`, of the policy `"raise"`), and the
            rows by `source`.
        queued: dict of id to index in the pool.
    """

    def __init__(self, name, edge, truth):
        self.name = name
        self.edge = edge
        self.counts = collections.Counter()
        self.queued = {}
        self.crashes = []
        self._truth = truth
        self._lock = threading.Lock()

    def ask(self, indices):
        """Sends one request and checks every row of its answer.

        Args:
            indices: int array, examples of the pool.

        Returns:
            bool: `True` where the teacher answered every delegated row.
        """
        truth, counts = self._truth, collections.Counter(requests=1)
        delegated = truth.delegated[indices]
        answered = False
        try:
            prediction = self.edge.predict(truth.x[indices])
        except TeacherError:
            # Right with this policy, but only for delegated rows.
            right = self.edge.on_failure == "raise" and delegated.any()
            counts["refused" if right else "lost"] += 1
        except Exception as error:
            counts["crashes"] += 1
            self.crashes.append(f"{self.name}: {error!r}")
        else:
            counts.update(self._checked(prediction, indices, delegated))
            answered = bool((prediction.source[delegated] == "cloud").all())
        with self._lock:
            self.counts.update(counts)
        return answered

    def take_queued(self):
        """Takes late answers; returns how often each id was answered."""
        times = collections.Counter()
        with self.edge.queued_answers() as answers:
            for row, row_id in enumerate(answers.ids):
                times[row_id] += 1
                index = self.queued[row_id]
                self._check_row(
                    answers, row, answers.source[row], "cloud",
                    self._truth.teacher[index],
                )  # fmt: skip
        return times

    def lose_unanswered(self, times):
        """Counts queued rows that nobody answered as lost requests.

        Args:
            times: dict of id to the number of late answers.
        """
        self.counts["lost"] += sum(not times[row_id] for row_id in self.queued)

    def _checked(self, prediction, indices, delegated):
        counts = collections.Counter()
        if len(prediction) != len(indices):
            return {"lost": 1}
        for row, index in enumerate(indices):
            source = str(prediction.source[row])
            counts[source] += 1
            allowed = ["edge"]
            if delegated[row]:
                allowed = ["cloud", EXPECTED.get(self.edge.on_failure)]
            values = self._truth.student[index]
            if source == "cloud":
                values = self._truth.teacher[index]
            if source not in allowed or not _same(
                prediction, row, source, values
            ):
                counts["mislabelled"] += 1
            if source == "queued":
                with self._lock:
                    if prediction.ids[row] in self.queued:
                        counts["duplicated"] += 1
                    self.queued[prediction.ids[row]] = index
        return counts

    def _check_row(self, prediction, row, source, expected, values):
        if source != expected or not _same(prediction, row, source, values):
            with self._lock:
                self.counts["mislabelled"] += 1


def _same(prediction, row, source, values):
    label = -1 if source in ("abstained", "queued") else values.argmax()
    return prediction.labels[row] == label and np.allclose(
        prediction.probabilities[row], values, atol=TOLERANCE
    )


class Load:
    """Load of several threads, over all clients in turn.

    Args:
        clients: list of `Client`.
        examples: int, size of the pool.
        threads: int.
    """

    def __init__(self, clients, examples, threads):
        self._clients = itertools.cycle(clients)
        self._examples = examples
        self._threads = threads
        self._lock = threading.Lock()
        self._rng = np.random.default_rng(0)
        self._remaining = 0

    def run(self, requests):
        """Sends so many requests and waits until they end."""
        self._remaining = requests
        threads = [
            threading.Thread(target=self._work) for _ in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self):
        while True:
            with self._lock:
                if not self._remaining:
                    return
                self._remaining -= 1
                client = next(self._clients)
                indices = self._rng.integers(
                    0, self._examples, self._rng.integers(1, 9)
                )
            client.ask(indices)

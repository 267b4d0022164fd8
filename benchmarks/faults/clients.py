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
    """What student and teacher answer to a pool of examples.

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
    """One edge cascade, its policy, and what became of its requests.

    Args:
        name: str.
        edge: `EdgeCascade`.
        truth: `Truth`.

    Attributes:
        counts: `Counter`: `requests`, `lost`, `mislabelled`, `crashes`,
            `refused` (a `TeacherError`, of the policy `"raise"`), and the
            rows by `source`.
        queued: dict of id to number in the pool.
    """

    def __init__(self, name, edge, truth):
        self.name = name
        self.edge = edge
        self.counts = collections.Counter()
        self.queued = {}
        self.crashes = []
        self._truth = truth
        self._lock = threading.Lock()

    def ask(self, picked):
        """One request; `True` where the teacher answered what it was asked.

        Args:
            picked: int array, numbers in the pool.
        """
        truth, found = self._truth, collections.Counter(requests=1)
        wanted = truth.delegated[picked]
        answered = False
        try:
            prediction = self.edge.predict(truth.x[picked])
        except TeacherError:
            # Said aloud, as the policy wants: but only for delegated rows.
            right = self.edge.on_failure == "raise" and wanted.any()
            found["refused" if right else "lost"] += 1
        except Exception as error:
            found["crashes"] += 1
            self.crashes.append(f"{self.name}: {error!r}")
        else:
            found.update(self._checked(prediction, picked, wanted))
            answered = bool((prediction.source[wanted] == "cloud").all())
        with self._lock:
            self.counts.update(found)
        return answered

    def take_queued(self):
        """Late answers, each id with the number of times it was answered."""
        times = collections.Counter()
        with self.edge.queued_answers() as answers:
            for row, name in enumerate(answers.ids):
                times[name] += 1
                number = self.queued[name]
                self._check_row(
                    answers, row, answers.source[row], "cloud",
                    self._truth.teacher[number],
                )  # fmt: skip
        return times

    def lose_unanswered(self, times):
        """Counts queued rows that nobody answered as lost requests.

        Args:
            times: dict of id to the number of late answers.
        """
        self.counts["lost"] += sum(not times[name] for name in self.queued)

    def _checked(self, prediction, picked, wanted):
        found = collections.Counter()
        if len(prediction) != len(picked):
            return {"lost": 1}
        for row, number in enumerate(picked):
            source = str(prediction.source[row])
            found[source] += 1
            allowed = ["edge"]
            if wanted[row]:
                allowed = ["cloud", EXPECTED.get(self.edge.on_failure)]
            values = self._truth.student[number]
            if source == "cloud":
                values = self._truth.teacher[number]
            if source not in allowed or not _same(
                prediction, row, source, values
            ):
                found["mislabelled"] += 1
            if source == "queued":
                with self._lock:
                    if prediction.ids[row] in self.queued:
                        found["duplicated"] += 1
                    self.queued[prediction.ids[row]] = number
        return found

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
    """Threads that ask, in turn, through every client.

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
        self._dice = np.random.default_rng(0)
        self._left = 0

    def run(self, requests):
        """Sends so many requests and waits for their ends."""
        self._left = requests
        threads = [
            threading.Thread(target=self._work) for _ in range(self._threads)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    def _work(self):
        while True:
            with self._lock:
                if not self._left:
                    return
                self._left -= 1
                client = next(self._clients)
                picked = self._dice.integers(
                    0, self._examples, self._dice.integers(1, 9)
                )
            client.ask(picked)

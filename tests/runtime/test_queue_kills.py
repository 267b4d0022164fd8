"""The queue survives kill -9 at any moment."""

import random
import subprocess
import sys
from pathlib import Path

from keras_cascade.runtime import TeacherQueue
from keras_cascade.runtime.queueing.queue_sender import QueueSender
from tests.runtime import queue_worker

KILLS = 6
ROOT = Path(__file__).parents[2]


def test_kill_9_loses_and_alters_nothing(tmp_path):
    """Killed at the n-th line of its journal, n drawn at random.

    The kill lands somewhere after that line: in a write, in a transaction, in
    the block that hands out answers.
    """
    queue_file, journal_file = tmp_path / "queue", tmp_path / "journal"
    journal_file.touch()
    numbers = random.Random(4)
    for _ in range(KILLS):
        worker = subprocess.Popen(
            [
                sys.executable, "-m", "tests.runtime.queue_worker",
                str(queue_file), str(journal_file),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )  # fmt: skip
        assert worker.stdout.readline() == "ready\n"
        for _ in range(numbers.randint(1, 40)):
            assert worker.stdout.readline() == "wrote\n"
        worker.kill()
        worker.communicate()

    words = [line.split() for line in journal_file.read_text().splitlines()]
    stored = {w[1]: w[2:] for w in words if w[0] == "put"}
    answers = [w for w in words if w[0] == "answer"]
    queue = TeacherQueue(queue_file, queue_worker.SPECS, queue_worker.CLASSES)
    left = {row.id for row in queue.read(queue.waiting())}
    QueueSender(queue, queue_worker.Echo()).send()
    with queue.answers() as rows:
        late = {row.id: [str(v) for v in row.logits] for row in rows}
    assert len(queue) == 0
    queue.close()
    # Every row whose id was given out has been answered or is answered now,
    # with its own answer; at most the block that was killed comes twice.
    handed_out = {w[1]: w[2:] for w in answers}
    assert stored.keys() <= handed_out.keys() | late.keys()
    for name, values in stored.items():
        for found in (handed_out, late):
            assert found.get(name, values) == values
    assert left <= late.keys()
    again = len(answers) - len(handed_out)
    assert again <= 3 * KILLS
    assert len(stored) > KILLS

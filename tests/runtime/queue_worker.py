"""Queues, sends and takes rows until it is killed; keeps a journal.

    python queue_worker.py QUEUE JOURNAL

Each line of the journal is written after its step, or, for answers, inside the
block in which they are handed out.
"""

import os
import sys

import numpy as np

from keras_cascade.runtime import TeacherQueue
from keras_cascade.runtime.queueing.queue_sender import QueueSender

SPECS = [{"name": "input", "shape": [None, 2], "dtype": "float32"}]
CLASSES = ["a", "b"]


class Echo:
    """A teacher whose logits are the inputs."""

    def logits(self, inputs):
        return inputs["input"]


def main():
    queue = TeacherQueue(sys.argv[1], SPECS, CLASSES)
    sender = QueueSender(queue, Echo())
    journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(*words):
        os.write(journal, (" ".join(map(str, words)) + "\n").encode())
        print("wrote", flush=True)

    print("ready", flush=True)
    rng = np.random.default_rng(os.getpid())
    while True:
        x = rng.normal(size=(3, 2)).astype("float32")
        for name, row in zip(
            queue.put({"input": x}, [0, 0, 0], x, "default"), x, strict=True
        ):
            write("put", name, *row)
        sender.send()
        with queue.answers() as rows:
            for row in rows:
                write("answer", row.id, *row.logits)


if __name__ == "__main__":
    main()

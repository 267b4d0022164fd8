"""Pays an LLM teacher for each text once, though its client is killed.

    python -m benchmarks.llm_teacher --json [--quick]

A local endpoint speaks the chat-completions protocol around a trained
classifier, answers 5 % of the requests with status 500 and 5 % with 429, and
declines 2 % of the texts; the answers to another 2 % are no class. A process
caches the logits of all texts, is killed with SIGKILL five times on the way,
and is started again. The endpoint counts what it charged for.
"""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import keras_cascade as kc
from benchmarks.harness import options, show

TEXTS, QUICK_TEXTS, KILLS = 10_000, 1_000, 5
CLASSES = ("account", "cards", "loans", "transfers")
ENDPOINT = Path(__file__).parents[1] / "tutorials" / "data" / "chat_endpoint.py"
WORDS = {
    "account": ("balance", "statement", "login", "address"),
    "cards": ("card", "stolen", "pin", "contactless"),
    "loans": ("loan", "interest", "mortgage", "instalment"),
    "transfers": ("transfer", "abroad", "iban", "recipient"),
}
FILLERS = ("please", "my", "the", "where", "is", "why", "was", "how", "new")
CHILD = """
import json, sys
import keras_cascade as kc

url, folder, texts = sys.argv[1:]
teacher = kc.teachers.OpenAICompatible(
    url, "local", {classes}, input_price=1.0, output_price=4.0)
cache = kc.cache_teacher_logits(
    json.load(open(texts)), teacher, folder, chunk_examples=1024)
print(json.dumps({{"usage": vars(teacher.usage), "usd": teacher.cost}}))
"""


def chat_endpoint():
    """Returns the class of the tutorials' local endpoint."""
    spec = importlib.util.spec_from_file_location("chat_endpoint", ENDPOINT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ChatEndpoint


def questions(count, seed):
    """Returns distinct questions and the classes of their words."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    texts = []
    for number, label in enumerate(labels):
        own = rng.choice(WORDS[CLASSES[label]], 2)
        other = rng.choice(WORDS[CLASSES[rng.integers(0, len(CLASSES))]])
        words = [*rng.choice(FILLERS, 5), *own, other]
        rng.shuffle(words)
        texts.append(f"{' '.join(words)} {seed}-{number}?")
    return texts, labels


def classifier():
    """Returns a trained classifier of questions."""
    texts, labels = questions(4_000, seed=1)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    return model.fit(texts, np.array(CLASSES)[labels])


def run_child(endpoint, folder, texts, kill_at):
    """Runs the client until it ends, or until so many texts are charged.

    Returns:
        Dict that the client printed, or `None` where it was killed.
    """
    code = CHILD.format(classes=list(CLASSES))
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            code,
            endpoint.url,
            folder,
            texts,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    while kill_at is not None and process.poll() is None:
        if endpoint.counts["charged"] >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        time.sleep(0.001)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"The client ended with {process.returncode}.")
    return json.loads(output.splitlines()[-1])


def measure(count):
    """Caches `count` texts with kills, and counts what became of them."""
    texts, _ = questions(count, seed=2)
    shares = classifier().predict_proba(texts)
    known = {
        text: dict(zip(CLASSES, row.tolist(), strict=True))
        for text, row in zip(texts, shares, strict=True)
    }
    endpoint = chat_endpoint()(
        known.__getitem__,
        errors=0.05,
        rate_limited=0.05,
        declined=0.02,
        outside=0.02,
    )
    kills = 0
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(endpoint)
        (folder / "texts.json").write_text(json.dumps(texts), "utf-8")
        arguments = (
            endpoint, str(folder / "cache"), str(folder / "texts.json"),
        )  # fmt: skip
        for number in range(1, KILLS + 1):
            at = count * number // (KILLS + 1)
            kills += run_child(*arguments, at) is None
        paid = run_child(*arguments, None)
        took = time.perf_counter() - start
        cache = kc.TeacherLogitsCache(folder / "cache")
        column = np.array(texts, dtype=object)
        lost = 0 if len(cache) == count else count - len(cache)
        logits = cache.logits(column)
    missing = np.isnan(logits).any(axis=1)
    answered = np.array([endpoint.fate_of(t) == "answered" for t in texts])
    same = logits.argmax(axis=1) == shares.argmax(axis=1)
    return {
        "texts": count,
        "kills": kills,
        "requests": endpoint.counts["requests"],
        "errors": endpoint.counts["errors"],
        "rate_limited": endpoint.counts["rate_limited"],
        "paid": len(endpoint.charges),
        "paid_twice": sum(n > 1 for n in endpoint.charges.values()),
        "sent_again_after_a_kill": endpoint.counts["repeated"],
        "lost": lost + int((missing & answered).sum()),
        "guessed": int((~missing & ~answered).sum()),
        "missing": int(missing.sum()),
        "another_class_than_the_endpoint": int((answered & ~same).sum()),
        "usage": paid["usage"],
        "usd": paid["usd"],
        "seconds": took,
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    show(measure(QUICK_TEXTS if chosen.quick else TEXTS), chosen.json)


if __name__ == "__main__":
    main()

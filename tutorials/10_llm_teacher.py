# %% [markdown]
# # From an LLM teacher to a small text student
#
# A large language model classifies texts well, for a price per text. This
# tutorial asks one about each training text once, distils the answers into a
# student of less than 1 MB, guarantees the accuracy of the pair against the
# LLM alone, and states what a million texts cost with and without the student.
# It takes about a minute.
#
# The model here is a local HTTP server that speaks the chat-completions
# protocol around a trained classifier. It fails, limits the rate and declines
# texts as real endpoints do. Two lines change for a real one.

# %%
import keras_cascade as kc

# %% [markdown]
# ## Texts
#
# As in [the tutorial on texts](06_text.ipynb): the beginnings of docstrings,
# with the library as the class, and the libraries' names masked.

# %%
import ast
import importlib.util
import re
import sysconfig
import warnings
from pathlib import Path

import numpy as np

# Of Python 3.12 and later, about other people's source.
warnings.simplefilter("ignore", SyntaxWarning)
CLASSES = ["matplotlib", "python", "scipy", "sklearn"]
MASKED = re.compile(
    r"\b(keras|matplotlib|pyplot|plt|c?python\d*|scipy|scikit-learn|sklearn"
    r"|numpy|np|tensorflow|tf)\b",
    re.IGNORECASE,
)
SKIPPED = re.compile("test|site-packages|lib2to3|idlelib")


def documentation(library, count=1_600):
    root = Path(sysconfig.get_path("stdlib"))
    if library != "python":
        root = Path(importlib.util.find_spec(library).origin).parent
    texts = set()
    for file in rng.permutation(sorted(root.rglob("*.py"))):
        if SKIPPED.search(str(file.relative_to(root))):
            continue
        if len(texts) >= count:
            break
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # templates, and files that are wrong on purpose
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                text = " ".join((ast.get_docstring(node) or "").split()[:60])
                if len(text.split()) >= 6:
                    texts.add(MASKED.sub("it", text))
    return sorted(texts)[:count]


rng = np.random.default_rng(0)
pairs = sorted(
    (text, label)
    for label, library in enumerate(CLASSES)
    for text in documentation(library)
)
pairs = list(dict(pairs).items())  # a text of two libraries once
order = rng.permutation(len(pairs))
texts = np.array([pairs[row][0] for row in order], dtype=object)
labels = np.array([pairs[row][1] for row in order])
print(f"{len(texts):,} texts, the first: {texts[0][:60]}...")

# %% [markdown]
# ## An endpoint
#
# The first texts train the classifier behind the local endpoint, on words and
# on parts of words; the last 2,600 are ours. It stands for a model that was
# trained elsewhere on much more. The endpoint answers 3 % of the
# requests with an error and 3 % with "too many requests". It declines 1 % of
# the texts, and the answer to 1 % is no class.

# %%
import sys

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

parts_of_words = TfidfVectorizer(
    analyzer="char_wb",
    ngram_range=(2, 5),
    sublinear_tf=True,
    max_features=40_000,
)
large = make_pipeline(
    make_union(TfidfVectorizer(sublinear_tf=True), parts_of_words),
    LogisticRegression(C=30, tol=1e-3),
).fit(texts[:-2_600], labels[:-2_600])
ours, our_labels = texts[-2_600:], labels[-2_600:]
shares = dict(zip(ours, large.predict_proba(ours).tolist(), strict=True))

sys.path.insert(0, "data")
from chat_endpoint import ChatEndpoint

endpoint = ChatEndpoint(
    lambda text: dict(zip(CLASSES, shares[text], strict=True)),
    errors=0.03,
    rate_limited=0.03,
    declined=0.01,
    outside=0.01,
).__enter__()

# %% [markdown]
# ## The teacher
#
# The prompt lists the classes with one character each and asks for that
# character; the log-probabilities of the characters are the logits. Requests
# run eight at a time; errors are retried, and a rate limit pauses all of them.
# For a real endpoint the first two arguments change. The key is read from the
# environment variable `OPENAI_API_KEY`.

# %%
teacher = kc.teachers.OpenAICompatible(
    endpoint.url,  # "https://api.example.com/v1"
    "local-model",  # the name of the model there
    CLASSES,
    input_price=0.1,  # USD per million tokens
    output_price=0.4,
)
print(teacher.prompt)

# %% [markdown]
# Each training text is asked about once. Every answer is on disk, in the
# cache's folder, before it is counted: a run that is killed, or ends with the
# quota, goes on there when this cell runs again, and pays for nothing twice.

# %%
import tempfile

folder = Path(tempfile.mkdtemp())
x_train, y_train = ours[:-1_300], our_labels[:-1_300]
x_cal, y_cal = ours[-1_300:-500], our_labels[-1_300:-500]
x_test, y_test = ours[-500:], our_labels[-500:]
cache = kc.cache_teacher_logits(x_train, teacher, folder / "answers")
print(teacher.usage)
print(f"{teacher.cost:.3f} USD for {teacher.usage.texts:,} texts")
print(f"{teacher.retried} requests were sent again")
print(f"charged twice: {sum(n > 1 for n in endpoint.charges.values())}")

# %% [markdown]
# What the model declined, or answered with no class, is not guessed: these rows
# are missing in the cache, and the student learns them from their labels.
#
# ## The student
#
# A bag of words with a vocabulary of 1,000 tokens. It reads strings through its
# own tokenizer, and learns from the LLM's answers.

# %%
import keras

keras.utils.set_random_seed(0)
tokenizer = kc.text.train_tokenizer(x_train, 1_000, lengths=64)
bag = kc.models.text_bag(
    tokenizer.vocabulary_size, len(CLASSES), width=8, buckets=0
)
policy = kc.distillation.StandardDistillation(temperature=2.0)
cascade = kc.Cascade(teacher, kc.text.TextModel(bag, tokenizer), policy)
cascade.costs = teacher.costs()
cascade.compile(keras.optimizers.Adam(1e-2))
history = cascade.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=12,
    teacher_logits=cache,
    verbose=0,
)

# %% [markdown]
# ## The guarantee
#
# On new texts of this kind, the student with the LLM behind it is at most 3
# points less accurate than the LLM on every text, with confidence 0.95. A
# missing answer counts as a wrong one of the teacher.

# %%
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.03, confidence=0.95)
)
bundle = cascade.export(folder / "bundle", quantization="dynamic")
student_file = bundle.manifest["student"]
print(f"{student_file['bytes']:,} bytes")
print(bundle.manifest["remote_teacher"]["kind"], "is not in the bundle")

# %% [markdown]
# ## On the device
#
# The bundle names the model and holds no key. The device gets a teacher object
# of its own, or the URL of a server of yours that asks the LLM.

# %%
alone = kc.runtime.EdgeCascade.load(bundle.path).predict_alone(x_test)
threshold = bundle.operating_point()["threshold"]
delegated = alone.score < threshold
answers = teacher.logits(x_test)
missing = np.isnan(answers).any(axis=1)
teacher_labels = np.where(missing, -1, np.nan_to_num(answers).argmax(axis=1))
final = np.where(delegated & ~missing, teacher_labels, alone.labels)

million = 1_000_000
for name, predicted, rate in (
    ("LLM alone", teacher_labels, 1.0),
    ("student alone", alone.labels, 0.0),
    ("cascade", final, delegated.mean()),
):
    usd = rate * cascade.costs.teacher * million
    print(
        f"{name:>13}: {(predicted == y_test).mean():.1%} right, "
        f"{rate:.0%} delegated, {usd:.2f} USD per million texts"
    )

# %% [markdown]
# ## The deferral curve

# %%
endpoint.__exit__()
results = kc.evaluation.ExampleResults(
    scores=alone.score,
    student_correct=alone.labels == y_test,
    teacher_correct=teacher_labels == y_test,
)
axes = results.deferral_curve().plot(
    title=f"An LLM behind a student of {student_file['bytes'] / 1000:.0f} kB",
    point=(delegated.mean(), (final == y_test).mean()),
)

# %% [markdown]
# **Next:** [teachers that are no Keras model](../docs/teachers.md), with votes
# where an endpoint returns no log-probabilities, ONNX files, PyTorch and
# scikit-learn; [texts](06_text.ipynb);
# [guarantees](03_a_threshold_with_a_guarantee.ipynb).

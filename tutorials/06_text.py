# %% [markdown]
# # A text cascade
#
# Teacher and student of a text cascade both take strings, each through its own
# tokenizer. This tutorial trains a student of about 25 kB that predicts which
# Python library a piece of documentation belongs to, exports it with its
# `tokenizer.json`, guarantees an accuracy, and examines which texts it accepts,
# which it delegates, and what it does with out-of-distribution texts. It takes
# about two minutes.

# %%
import keras_cascade as kc

# %% [markdown]
# ## Real texts, without a download
#
# The dependencies of this package contain much documentation. The texts are the
# beginnings of the docstrings of public functions and classes; the label is
# the library. The source files are parsed, not imported. Names of the libraries
# are masked in the texts, as they would give the label away.

# %%
import ast
import importlib.util
import re
import sysconfig
import warnings
from pathlib import Path

# Of Python 3.12 and later, about other people's source.
warnings.simplefilter("ignore", SyntaxWarning)

NAMES = {
    "keras": "keras",
    "matplotlib": "matplotlib|mpl|pyplot|plt",
    "numpy": "numpy|np",
    "python": r"c?python\d*",
    "scipy": "scipy",
    "sklearn": "scikit-learn|scikits?|sklearn",
    "tensorflow": "tensorflow|tf",
}
EVERY_NAME = re.compile(rf"\b({'|'.join(NAMES.values())})\b", re.IGNORECASE)
SKIPPED = re.compile("test|site-packages|lib2to3|idlelib")


def source_files(library):
    root = Path(sysconfig.get_path("stdlib"))
    if library != "python":
        root = Path(importlib.util.find_spec(library).origin).parent
    for file in sorted(root.rglob("*.py")):
        if not SKIPPED.search(str(file.relative_to(root))):
            yield file


# %% [markdown]
# Of each docstring we take the first three paragraphs, at most 60 words. The
# standard library (`"python"`) is the one without a package of its own.


# %%
def documentation(library):
    texts = set()
    for file in source_files(library):
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # templates, and files that are wrong on purpose
            continue
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            text = ast.get_docstring(node) or ""
            text = " ".join("\n\n".join(text.split("\n\n")[:3]).split()[:60])
            text = EVERY_NAME.sub("it", text)
            if not node.name.startswith("_") and len(text.split()) >= 6:
                texts.add(text)
    return texts


documents = {library: documentation(library) for library in NAMES}
print({library: len(texts) for library, texts in documents.items()})

# %% [markdown]
# Libraries copy from each other, so a text that occurs in two of them is
# removed. At most 1,800 texts of each remain. They are written to a CSV file
# with the columns `text` and `label`, which the package reads and splits, as
# `keras-cascade train --data csv:docs.csv` would.

# %%
import csv
import random
import tempfile
from collections import Counter

folder = Path(tempfile.mkdtemp())
copies = Counter(text for texts in documents.values() for text in texts)
with open(folder / "docs.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["text", "label"])
    for library, texts in documents.items():
        own = sorted(text for text in texts if copies[text] == 1)
        chosen = random.Random(0).sample(own, min(1_800, len(own)))
        writer.writerows([text, library] for text in chosen)

# %%
data = kc.datasets.load(f"csv:{folder / 'docs.csv'}")
x_train, y_train = data.arrays("train")
x_cal, y_cal = data.arrays("calibration")
x_test, y_test = data.arrays("test")
print(data.sizes)
for text, label in zip(x_train[:4], y_train[:4], strict=True):
    print(f"{data.class_names[label]:>10}: {text[:60]}...")

# %% [markdown]
# ## A teacher
#
# A teacher can be large, and an ensemble. This one is the average of two models
# that read 96 tokens with a vocabulary of 8,000: a wide bag of words and word
# pairs, and a convolution. `kc.text.TextModel` combines a tokenizer with a
# model of token ids, and the result takes strings.
#
# With access to a network, use `keras_hub.models.BertTextClassifier
# .from_preset("bert_small_en_uncased", num_classes=7)` here and fine-tune it;
# nothing else changes. Trained from scratch on a few thousand texts, a
# transformer was less accurate than these two.

# %%
import keras

keras.utils.set_random_seed(0)
words = kc.text.train_tokenizer(x_train, vocabulary_size=8_000, lengths=96)
size, classes = words.vocabulary_size, data.classes
members = [
    kc.models.text_bag(size, classes, width=64, dropout=0.5, name="bag"),
    kc.models.text_cnn(
        size, classes, width=96, filters=256, dropout=0.5, name="cnn"
    ),
]
token_ids = keras.Input((None,), dtype="int32", name="token_ids")
logits = keras.layers.average([member(token_ids) for member in members])
teacher = kc.text.TextModel(keras.Model(token_ids, logits), words)

# %% [markdown]
# Each member is trained separately, so that their errors differ and averaging
# reduces them.


# %%
def compile_and_fit(model, learning_rate, epochs):
    steps = epochs * -(-len(x_train) // 64)
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        keras.optimizers.Adam(decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=64, epochs=epochs, verbose=0)
    accuracy = model.evaluate(x_cal, y_cal, verbose=0)[1]
    print(f"{model.name:>8}: {accuracy:.1%} of the calibration split right")


for member, learning_rate, epochs in zip(
    members, (5e-3, 2e-3), (10, 7), strict=True
):
    text_model = kc.text.TextModel(member, words, name=member.name)
    compile_and_fit(text_model, learning_rate, epochs)

# %% [markdown]
# ## A student
#
# The student is a bag of words with a vocabulary of 2,000 tokens, a length of
# 64 and embeddings of 8 numbers. Its targets are the teacher's probabilities at
# temperature 2 and, with a weight of 0.3, the labels. The teacher's logits are
# computed once.
#
# The teacher's wide bag could be the student of a device with a megabyte of
# memory. This one is for a device with a few dozen kB.

# %%
keras.utils.set_random_seed(0)
tokenizer = kc.text.train_tokenizer(x_train, 2_000, lengths=64)
bag = kc.models.text_bag(tokenizer.vocabulary_size, classes, width=8, buckets=0)
student = kc.text.TextModel(bag, tokenizer, name="student")
print(f"{bag.count_params():,} weights against {teacher.count_params():,}")

policy = kc.distillation.StandardDistillation(
    temperature=2.0, student_loss_weight=0.3
)
cascade = kc.Cascade(teacher, student, distillation=policy)
cache = kc.cache_teacher_logits(x_train, teacher, folder / "logits")

# %%
epochs = 20
steps = epochs * -(-len(x_train) // 64)
decay = keras.optimizers.schedules.CosineDecay(1e-2, steps)
cascade.compile(keras.optimizers.Adam(decay))
history = cascade.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=epochs,
    teacher_logits=cache,
    verbose=0,
)

# %% [markdown]
# ## Costs
#
# Both models are timed in their deployed form, tokenizers included: the student
# in LiteRT on one thread, the teacher as a SavedModel. The network is assumed
# to add 20 ms. All costs below are in milliseconds. This teacher is cheap, and
# the network dominates the cost. (In [the
# benchmark](../docs/benchmarks/text.json) MiniLM takes 27 times as long as its
# student.)

# %%
cascade.costs = kc.export.costs_from_latency(cascade, x_cal, network=20)
print(cascade.costs.how_measured)
print(f"teacher / student: {cascade.costs.teacher / cascade.costs.student:.1f}")

# %% [markdown]
# ## Calibration and export
#
# The guarantee: on new texts of this kind the cascade is at most 2 points less
# accurate than the teacher, with confidence 0.95. `export` stores the student
# in 8 bits, runs the file, and fits the threshold again on the file's own
# scores.

# %%
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.02, confidence=0.95)
)
print(point)

# %%
bundle = cascade.export(
    folder / "docs_bundle", class_names=data.class_names, quantization="int8"
)
exported = bundle.manifest["student"]
print(f"student.tflite: {exported['bytes']:,} bytes")
for name in ("file", "lengths", "texts", "truncated"):
    print(f"{name:>10}: {exported['text'][name]}")

# %% [markdown]
# The manifest states how many calibration texts are truncated to 64 tokens.
# `export` tokenizes each of them both ways, as in training and with
# `tokenizer.json`; a difference is an error. That file is in the format of
# Hugging Face's `tokenizers`, which is also available for Rust and JavaScript.
# Here the test texts are tokenized with that library alone:

# %%
import tokenizers

on_device = tokenizers.Tokenizer.from_file(
    str(bundle.path / exported["text"]["file"])
)
in_training = tokenizer.encode(x_test)["token_ids"]
same = [
    ids[ids > 0].tolist() == on_device.encode(text).ids
    for ids, text in zip(in_training, x_test, strict=True)
]
print(f"{sum(same):,} of {len(same):,} texts have the same tokens")

# %% [markdown]
# ## On the device
#
# `EdgeCascade` takes strings and loads neither TensorFlow nor Keras, except
# for `"local"`, which runs the teacher in this process instead of on a server.
# The prediction states per row which model answered and whether the text was
# truncated.

# %%
edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
answer = edge.predict(x_test)
alone = edge.predict_alone(x_test)
measured = cascade.judge((x_test, y_test))
teacher_accuracy = measured.teacher_correct.mean()
accuracy = (answer.labels == y_test).mean()
print(f"teacher {teacher_accuracy:.1%}, cascade {accuracy:.1%}")
print(f"student alone {(alone.labels == y_test).mean():.1%}")
print(f"delegated {answer.delegation_rate:.1%}")
print(f"truncated {answer.truncated.mean():.1%} of the texts")

# %% [markdown]
# The student alone is far below the teacher, and delegating a minority of the
# texts closes most of the gap. Are truncated texts delegated more often?

# %%
truncated = answer.truncated
for name, rows in {"truncated": truncated, "whole": ~truncated}.items():
    delegated = (answer.source[rows] == "cloud").mean()
    right = (alone.labels == y_test)[rows].mean()
    print(f"{name:>10}: {delegated:.1%} delegated, student {right:.1%} right")

# %% [markdown]
# Not much more often: the beginning of a docstring holds most of the
# information about its library.
#
# The cost in milliseconds: the student always runs, the teacher only on
# delegated texts.

# %%
cost = cascade.costs.amortized(answer.delegation_rate)
teacher_cost = cascade.costs.teacher + cascade.costs.network
print(f"cascade {cost:.2f} ms per text, teacher alone {teacher_cost:.2f} ms")
print(f"ratio {cost / teacher_cost:.2f}")

# %% [markdown]
# ## Accepted and delegated texts
#
# The first accepted and the first delegated texts:

# %%
for source in ("edge", "cloud"):
    print(f"{source}: score, student, answer, label, text")
    for row in (answer.source == source).nonzero()[0][:6]:
        print(
            f"{answer.score[row]:5.2f} {alone.names[row]:10} "
            f"{answer.names[row]:10} {data.class_names[y_test[row]]:10} "
            f"{x_test[row][:42]}"
        )

# %% [markdown]
# ## Out-of-distribution texts
#
# A student assigns one of its classes to every text, also to one that belongs
# to none of them. Are such texts delegated? First some sentences that are not
# documentation.

# %%
sentences = [
    "The train to the airport leaves at ten past six.",
    "Turn the soup down and let it simmer for an hour.",
    "She had never seen the sea before that summer.",
    "Click here to reset the password of your account.",
    "The court found that the contract had not been breached.",
]
guess = edge.predict(sentences)
for row, text in enumerate(sentences):
    print(
        f"{guess.score[row]:5.2f} {guess.source[row]:6} "
        f"{guess.names[row]:10} {text}"
    )

# %% [markdown]
# Each was assigned to a library, and some were accepted. Five sentences are too
# few for a measurement, so the documentation of four other installed libraries
# is the out-of-distribution (OOD) sample. `auroc` is the probability that an
# in-distribution text scores above an OOD text; 0.5 is chance.

# %%
others = ("jinja2", "PIL", "rich", "typer")
ood_texts = sorted(set().union(*map(documentation, others)))
ood_scores = edge.predict_alone(ood_texts).score
threshold = edge.operating_point["threshold"]
detection = kc.evaluation.out_of_distribution(
    alone.score, ood_scores, threshold
)
print(f"auroc {detection.auroc:.2f}")
count = f"{detection.ood_examples:,}"
print(f"delegated {detection.delegated:.0%} of {count} OOD texts")
print(f"delegated {detection.delegation_rate:.0%} of the in-distribution texts")

# %% [markdown]
# The gate detects only a part of the OOD texts: its score reflects how hard a
# text is to classify, not whether it belongs to one of the classes.
# `threshold_against` computes the threshold that delegates a stated share of
# such texts; more in-distribution texts are then delegated as well.

# %%
for share in (0.7, 0.8, 0.9):
    needed = kc.evaluation.threshold_against(ood_scores, share, 0.9)
    in_distribution = (alone.score < needed).mean()
    print(f"{share:.0%} of OOD texts: {in_distribution:.0%} of the others")

# %% [markdown]
# A higher threshold keeps every guarantee on accuracy, as it delegates more.
# Delegating an OOD text helps only if the teacher can recognize it; this one
# has the same seven classes. If such texts are expected, label some with a
# class of their own
# ([docs/text.md](../docs/text.md#out-of-distribution-inputs)).
#
# ## The deferral curve
#
# The scores of the exported file, over all thresholds. Where the curve starts
# with a straight line, the two best logits are the same 8-bit number: such
# texts have the margin 0 and are delegated together.

# %%
edge.close()
results = kc.evaluation.ExampleResults(
    scores=alone.score,
    student_correct=alone.labels == y_test,
    teacher_correct=measured.teacher_correct,
)
axes = results.deferral_curve().plot(
    title=f"Deferral curve of a student of {exported['bytes'] / 1000:.0f} kB",
    point=(answer.delegation_rate, accuracy),
)

# %% [markdown]
# **Next:** [the reference on texts](../docs/text.md), with pairs of texts,
# KerasHub models and rejected inputs; [serving and
# failures](05_edge_and_cloud.ipynb); [your own
# models](07_bring_your_own_model.ipynb).

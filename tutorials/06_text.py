# %% [markdown]
# # A cascade of texts
#
# Teacher and student of a text cascade both take strings, and each brings its
# own tokenizer. You will train a student of about 25 kB to guess which Python
# library a piece of documentation belongs to, ship it with its
# `tokenizer.json`, guarantee an accuracy, and look at which texts it keeps,
# which it delegates, and what it does with texts that no class is right for.
# It takes about two minutes.

# %%
import keras_cascade as kc

# %% [markdown]
# ## Real texts, without a download
#
# Every install of this package brings much documentation with it. We take the
# beginning of the docstrings of public functions and classes; the label is
# the library. The source files are parsed and not imported. Where a text names
# one of the libraries, the name is masked: that would be too easy.

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


found = {library: documentation(library) for library in NAMES}
print({library: len(texts) for library, texts in found.items()})

# %% [markdown]
# Libraries copy from each other, so a text that two of them have is dropped.
# At most 1,800 texts of each remain. They go into a CSV file with the columns
# `text` and `label`, which the package reads and splits, as `keras-cascade
# train --data csv:docs.csv` would.

# %%
import csv
import random
import tempfile
from collections import Counter

folder = Path(tempfile.mkdtemp())
copies = Counter(text for texts in found.values() for text in texts)
with open(folder / "docs.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["text", "label"])
    for library, texts in found.items():
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
# A teacher in the cloud need not be small, nor one model. This one is the
# average of two that read 96 tokens with a vocabulary of 8,000: a wide bag of
# words and word pairs, and a convolution. `kc.text.TextModel` puts a tokenizer
# in front of a model of token ids, and the result takes strings.
#
# With a network you would write `keras_hub.models.BertTextClassifier
# .from_preset("bert_small_en_uncased", num_classes=7)` here, fine-tune it, and
# change nothing below. Trained from scratch on a few thousand texts, a
# transformer was worse than these two.

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
# Each member is trained by itself: trained as one model they would lean on
# each other, and their average would be no better than the better of them.


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
# The student knows 2,000 tokens, reads the first 64 of a text and keeps 8
# numbers for each: a bag of words. It learns from the teacher's probabilities,
# flattened by a temperature of 2, and to three tenths from the labels. The
# teacher's logits are computed once.
#
# Why so small? The teacher's wide bag would be a fine student too, for a device
# with a megabyte to spare. This one is for a device that has a few dozen kB.

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
# ## What an answer costs
#
# Both models are timed as they will run, tokenizers included: the student in
# LiteRT on one thread, the teacher as a SavedModel. Reaching the teacher is
# said to take another 20 ms. From here on, costs are in milliseconds. This
# teacher is cheap: it is the way to it that costs. (MiniLM takes the processor
# 27 times as long as its student in
# [the benchmark](../docs/benchmarks/text.json).)

# %%
cascade.costs = kc.export.costs_from_latency(cascade, x_cal, network=20)
print(cascade.costs.how_measured)
print(f"teacher / student: {cascade.costs.teacher / cascade.costs.student:.1f}")

# %% [markdown]
# ## Guarantee and ship
#
# The guarantee: new texts of this kind are answered at most 2 points less
# accurately than by the teacher, with confidence 0.95. `export` stores the
# student in 8 bits, runs the file, and fits the threshold again on the file's
# own scores.

# %%
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.02, confidence=0.95)
)
print(point)

# %%
bundle = cascade.export(
    folder / "docs_bundle", class_names=data.class_names, quantization="int8"
)
shipped = bundle.manifest["student"]
print(f"student.tflite: {shipped['bytes']:,} bytes")
for name in ("file", "lengths", "texts", "truncated"):
    print(f"{name:>10}: {shipped['text'][name]}")

# %% [markdown]
# The file is small, and it does not read all: the manifest counts the
# calibration texts that were cut to 64 tokens. Before `export` returned, each
# was tokenized both ways, in training and through `tokenizer.json`; one
# difference would have been an error. That file is in the format of Hugging
# Face's `tokenizers`, which also exists for Rust, JavaScript and more. Here it
# reads the test texts with that library alone:

# %%
import tokenizers

on_device = tokenizers.Tokenizer.from_file(
    str(bundle.path / shipped["text"]["file"])
)
in_training = tokenizer.encode(x_test)["token_ids"]
same = [
    ids[ids > 0].tolist() == on_device.encode(text).ids
    for ids, text in zip(in_training, x_test, strict=True)
]
print(f"{sum(same):,} of {len(same):,} texts become the same tokens")

# %% [markdown]
# ## On the device
#
# `EdgeCascade` takes strings and loads neither TensorFlow nor Keras, except
# for `"local"`, which runs the teacher in this process instead of asking a
# server. Every row says who answered it and whether it was cut.

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
print(f"cut {answer.truncated.mean():.1%} of the texts")

# %% [markdown]
# The student alone is far below the teacher, and most of the distance is made
# up by asking about a minority of the texts. Is it the cut texts that are
# delegated? We can ask the rows.

# %%
for name, rows in {"cut": answer.truncated, "whole": ~answer.truncated}.items():
    asked = (answer.source[rows] == "cloud").mean()
    right = (alone.labels == y_test)[rows].mean()
    print(f"{name:>6}: {asked:.1%} delegated, student {right:.1%} right")

# %% [markdown]
# Not much more often: the beginning of a docstring says most of what it is
# about.
#
# And what it costs, in the milliseconds from above: the student always runs,
# the teacher only where it is asked.

# %%
spent = cascade.costs.amortized(answer.delegation_rate)
always = cascade.costs.teacher + cascade.costs.network
print(f"cascade {spent:.2f} ms a text, teacher always {always:.2f} ms")
print(f"ratio {spent / always:.2f}")

# %% [markdown]
# ## What is kept, and what is delegated
#
# The first texts that were kept, and the first that were delegated.

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
# ## What nobody asked for
#
# A classifier has no answer for a text that belongs to none of its classes,
# and the student gives one anyway. Does the gate notice? First some sentences
# from no library at all.

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
# Every one got the name of a library, and some were kept. Five sentences are an
# anecdote. Documentation of four other libraries, which
# are installed as well, gives enough to measure. `auroc` is the chance that a
# text in scope scores above one out of distribution (OOD); 0.5 would be no
# better than a coin.

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
print(f"delegated {detection.delegation_rate:.0%} of those in scope")

# %% [markdown]
# The gate knows something of OOD texts, but not much: it was made for
# texts that are hard to tell apart, not for those that are none of them.
# `threshold_against` says how high the threshold must be to delegate a stated
# share of such texts, and the price is paid by the texts in scope.

# %%
for share in (0.7, 0.8, 0.9):
    needed = kc.evaluation.threshold_against(ood_scores, share, 0.9)
    in_scope = (alone.score < needed).mean()
    print(f"{share:.0%} of OOD texts: {in_scope:.0%} of those in scope")

# %% [markdown]
# A higher threshold keeps every guarantee on accuracy, as it delegates more.
# Delegating an OOD text helps only if the cloud can tell it for what it is:
# this teacher has the same seven answers. If such texts will come, label some
# with a class of their own
# ([docs/text.md](../docs/text.md#out-of-distribution-inputs)).
#
# ## The whole curve
#
# The scores of the file that ships, against every threshold it could have had.
# Where the curve starts with a straight line, the two best logits are the same
# 8-bit number: such texts have the margin 0 and are delegated together.

# %%
edge.close()
results = kc.evaluation.ExampleResults(
    scores=alone.score,
    student_correct=alone.labels == y_test,
    teacher_correct=measured.teacher_correct,
)
axes = results.deferral_curve().plot(
    title=f"A {shipped['bytes'] / 1000:.0f} kB student that knows when to ask",
    point=(answer.delegation_rate, accuracy),
)

# %% [markdown]
# Next: [the reference on texts](../docs/text.md), with pairs of texts, KerasHub
# models and what is refused; [a served teacher that fails on
# purpose](05_edge_and_cloud.ipynb); [your own
# models](07_bring_your_own_model.ipynb).

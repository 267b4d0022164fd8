"""Checks `docs/bundle.md` against schema, code and reference bundles."""

import hashlib
import importlib.resources
import json
import re

import numpy as np
import pytest
import tokenizers
from ai_edge_litert.interpreter import Interpreter

import keras_cascade as kc
from keras_cascade.bundle import Bundle
from keras_cascade.runtime import EdgeCascade
from keras_cascade.text.text_reader import TextReader
from tests.helpers.documents import ROOT, blocks, languages, rows

DOCUMENT = "docs/bundle.md"
SAVED = ("fashion_mnist", "fashion_mnist_float32")
SCHEMA = json.loads(
    importlib.resources.files("keras_cascade.bundle")
    .joinpath("manifest.schema.json")
    .read_text("utf-8")
)


def resolved(node):
    if "$ref" in node:
        return SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def within(node, step):
    """Returns the schema of one step of a path such as `guarantees[]`."""
    key, is_list, _ = step.partition("[]")
    node = resolved(node)
    node = resolved(node["properties"][key])
    return resolved(node["items"]) if is_list else node


def objects(node):
    """Yields every schema in `node` that names keys."""
    node = resolved(node)
    if "properties" in node:
        yield node
    for part in [*node.get("properties", {}).values(), node.get("items")]:
        if part is not None:
            yield from objects(part)


def documented():
    """Lists `(path, schema, keys)` of each object of the table."""
    found = {}
    for path, keys, _ in rows(DOCUMENT, ("object", "keys", "what they say")):
        listed = found.setdefault(path.strip("`"), [])
        listed += re.findall(r"`(\w+\??)`", keys)
    assert found
    for path, keys in found.items():
        node = SCHEMA
        for step in path.split(".") if path != "manifest" else ():
            node = within(node, step)
        yield path, node, keys


def test_every_key_of_the_schema_is_documented():
    seen = []
    for path, node, keys in documented():
        required = set(node.get("required", ()))
        stated = [key if key in required else f"{key}?"
                  for key in node["properties"]]  # fmt: skip
        assert sorted(keys) == sorted(stated), path
        seen.append(id(node))
    everything = {id(node) for node in objects(SCHEMA)}
    assert everything == set(seen)


@pytest.mark.parametrize("name", SAVED)
def test_what_is_written_beyond_the_schema_is_named(name):
    text = (ROOT / DOCUMENT).read_text("utf-8")
    manifest = json.loads(
        (ROOT / "saved_models" / name / "manifest.json").read_text("utf-8")
    )
    for path, node, _ in documented():
        part = [manifest]
        for step in path.split(".") if path != "manifest" else ():
            key, is_list, _ = step.partition("[]")
            part = [one[key] for one in part if one.get(key) is not None]
            if is_list:
                part = [each for one in part for each in one]
        for one in part:
            for key in one.keys() - node["properties"].keys():
                assert path == "operating_points[]"
                assert f"`{key}`" in text.partition("| object |")[0]


def test_only_onnx_has_no_other_keys():
    closed = [
        path
        for path, node, _ in documented()
        if node.get("additionalProperties") is False
    ]
    assert closed == ["onnx"]


@pytest.mark.parametrize("name", SAVED)
def test_the_tensors(name):
    bundle = Bundle.load(ROOT / "saved_models" / name)
    signature = Interpreter(str(bundle.student_file)).get_signature_runner(
        "serving_default"
    )
    found = {
        tensor: (np.dtype(detail["dtype"]).name, len(detail["shape"]))
        for tensor, detail in signature.get_output_details().items()
    }
    _, *listed = rows(DOCUMENT, ("tensor", "type", "shape", "what it is"))
    assert found == {
        tensor.strip("`"): (dtype, shape.count(",") + 1)
        for tensor, dtype, shape, _ in listed
    }
    for detail in [
        *signature.get_input_details().values(),
        *signature.get_output_details().values(),
    ]:
        assert detail["shape_signature"][0] == 1
        assert (detail["shape_signature"] == detail["shape"]).all()


class Spelled(str):
    """A number with its spelling in the file."""


def sealed_text(value):
    """Builds the hashed text without `json.dumps`."""
    if isinstance(value, Spelled):
        return value
    if isinstance(value, dict):
        parts = (
            f"{json.dumps(key)}:{sealed_text(value[key])}"
            for key in sorted(value)
        )
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(sealed_text, value)) + "]"
    return json.dumps(value)  # a string, true, false, null


@pytest.mark.parametrize("name", SAVED)
def test_the_seal_keeps_numbers_as_they_are_spelled(name):
    file = ROOT / "saved_models" / name / "manifest.json"
    manifest = json.loads(
        file.read_text("utf-8"), parse_float=Spelled, parse_int=Spelled
    )
    seal = manifest.pop("sha256")
    text = sealed_text(manifest)
    assert seal == hashlib.sha256(text.encode("ascii")).hexdigest()


def test_texts_by_the_tokenizers_library_alone():
    """Truncation, padding and masks of the document, against the runtime."""
    texts = ["a cat", "a dog and a cat", "a bird " * 40]
    ours = kc.text.train_tokenizer(texts, lengths=[8, 16])
    made = tokenizers.Tokenizer.from_str(ours.content)
    pad = made.token_to_id(ours.pad)
    for asked, length in ((texts[:1], 8), (texts, 16)):
        ids = [made.encode(text).ids[: ours.lengths[-1]] for text in asked]
        found = ours.encode(asked)
        np.testing.assert_array_equal(
            found["token_ids"],
            np.array([one + [pad] * (length - len(one)) for one in ids]),
        )
        np.testing.assert_array_equal(
            found["padding_mask"].sum(axis=1), list(map(len, ids))
        )
    for one in TextReader(ours, ("text",), {}).vectors():
        assert made.encode(one["text"]).ids == one["token_ids"]


def test_the_python_block(monkeypatch):
    assert languages(DOCUMENT) == ["python"]
    monkeypatch.chdir(ROOT)
    names = {}
    (block,) = blocks(DOCUMENT, "python")
    exec(compile(block, DOCUMENT, "exec"), names)
    with EdgeCascade.load(names["bundle"]) as edge:
        prediction = edge.predict(np.zeros((2, 28, 28, 1), "float32"))
    np.testing.assert_array_equal(
        prediction.source != "edge", names["answer"]["delegate"]
    )


def test_it_is_short():
    assert len((ROOT / DOCUMENT).read_text("utf-8").splitlines()) <= 150

"""Test vectors for the code in `deploy/`, which is in other languages.

    python -m tests.helpers.deploy_vectors

writes `deploy/vectors.json`. What is expected is derived here from the tables
of docs/failures.md and docs/bundle.md, not by the product: a test compares it
with `EdgeCascade`.
"""

import hashlib
import json
import math
import struct

import numpy as np

from tests.helpers.documents import ROOT

FILE = ROOT / "deploy" / "vectors.json"
SOURCES = {
    "answer": "edge_fallback",
    "abstain": "abstained",
    "queue": "queued",
    "raise": None,
}
LARGEST = float(np.finfo("float32").max)
POINTS = {
    "default": 0.5,
    "frugal": 0.7,
    "never": -1e39,
    "always": 1e39,
    "by_class": [0.2, 0.7, 1e39],
}
#: How an ONNX teacher's file becomes logits; the numbers are written
#: otherwise in each language.
ONNX = [
    {"output": "logits", "outputs": "logits", "clip": 1e-7},
    {
        "output": "d\u00e9j\u00e0",
        "outputs": "probabilities",
        "clip": 0.1,
        "inputs": {"input": "features"},
    },
]


def manifest(**changes):
    """Returns a manifest that fits the schema, with keys exchanged."""
    points = [
        {
            "name": name,
            "threshold": float(np.max(threshold)),
            **(
                {"class_thresholds": threshold}
                if isinstance(threshold, list)
                else {}
            ),
            "objective": None,
            "confidence": None,
            "delegation_rate": 0.1,
            "accuracy": 0.9,
            "accuracy_drop_bound": None,
            "amortized_cost": 0.2,
        }
        for name, threshold in POINTS.items()
    ]
    content = {
        "format": "keras_cascade.bundle",
        "version": 1,
        "minor_version": 1,
        "name": "vectors",
        "created": "2026-11-28T10:00:00+00:00",
        "classes": [
            "bag",
            "d\u00e9j\u00e0 \u00bb",
            'a "shirt"\n/\u2028\U0001f600',
        ],
        "input": [
            {
                "name": "input",
                "shape": [None, 2, 2, 1],
                "dtype": "float32",
                "range": [0.0, 1.0],
                "scale": "0-1",
            }
        ],
        "student": {
            "file": "student.tflite",
            "sha256": hashlib.sha256(b"student").hexdigest(),
            "bytes": 7,
            "quantization": "none",
        },
        "teacher": {
            "path": "teacher/1",
            "files": {
                "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
                "variables/variables.index": hashlib.sha256(b"i").hexdigest(),
            },
            "signature": "serving_default",
            "output": "logits",
            "url": None,
        },
        "gate": {"class": "MarginGate", "config": {}},
        "operating_points": points,
        "calibration": {"examples": 9, "sha256": "0" * 64, "measured_on": "-"},
        "costs": {
            "student": 0.1,
            "teacher": 1.0,
            "unit": "teacher passes",
            "how_measured": "-",
        },
        "versions": {"keras-cascade": "0.2.0"},
    }
    return content | changes


def decisions():
    """Returns cases of a student's outputs, a policy and a teacher."""
    sure, unsure, tied = [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.4, 0.4, 0.2]
    first, fifth = [0.8, 0.1, 0.1], float(np.float32(0.2))
    logits, tied_logits = [3.0, -1.0, 0.5], [1.0, 2.0, 2.0]
    near = float(np.float32(0.7))  # below 0.7, and not delegated
    below = float(np.nextafter(np.float32(0.7), np.float32(0)))
    cases = [
        ("kept", "default", sure, 0.9, 0, None),
        ("kept_tie", "default", tied, 0.9, 0, None),
        # The file's `delegate` decides at `default`, whatever the score.
        ("file_decides", "default", sure, 0.9, 1, logits),
        ("delegated", "default", unsure, 0.1, 1, logits),
        ("teacher_tie", "default", unsure, 0.1, 1, tied_logits),
        ("point_keeps", "frugal", sure, near, 1, None),
        ("point_delegates", "frugal", sure, below, 0, logits),
        ("nan_is_delegated", "frugal", sure, None, 0, logits),
        ("least_threshold", "never", sure, -LARGEST, 1, None),
        ("largest_threshold", "always", sure, 1e38, 0, logits),
        # The threshold of the student's class, not the highest.
        ("class_keeps", "by_class", first, fifth, 1, None),
        ("class_delegates", "by_class", first, 0.19, 0, logits),
        ("other_class_keeps", "by_class", sure, near, 1, None),
        ("other_class_delegates", "by_class", sure, below, 0, logits),
        ("class_of_a_tie_keeps", "by_class", tied, fifth, 1, None),
        ("class_largest", "by_class", unsure, 1e38, 0, logits),
        ("class_nan_is_delegated", "by_class", first, None, 0, logits),
    ]
    for name, point, probabilities, score, delegate, answer in cases:
        student = {
            "probabilities": probabilities,
            "score": score,
            "delegate": delegate,
        }
        for policy in SOURCES:
            outcomes = [("", {"logits": answer} if answer else None)]
            if answer is not None:
                outcomes.append(("_fails", {"error": "no signal"}))
            for suffix, teacher in outcomes:
                yield {
                    "name": f"{name}{suffix}_{policy}",
                    "operating_point": point,
                    "on_failure": policy,
                    "student": student,
                    "teacher": teacher,
                    "expected": expected(student, policy, teacher),
                }


def expected(student, policy, teacher):
    """Derives a prediction from the table of docs/failures.md."""
    names = manifest()["classes"]

    def answer(source, probabilities, label=None):
        if label is None:
            label = probabilities.index(max(probabilities))
        return {
            "source": source,
            "label": label,
            "name": None if label < 0 else names[label],
            "probabilities": probabilities,
            "error": None,
        }

    own = student["probabilities"]
    if teacher is None:
        return answer("edge", own)
    if "logits" in teacher:
        powers = [math.exp(one) for one in teacher["logits"]]
        return answer("cloud", [one / sum(powers) for one in powers])
    if policy == "raise":
        return {"raises": teacher["error"]}
    label = None if policy == "answer" else -1
    failed = answer(SOURCES[policy], own, label)
    return failed | {"error": teacher["error"]}


def refused():
    """Returns manifests that readers refuse, and a part of the message."""
    files = manifest()["student"]
    point = manifest()["operating_points"][0]
    return [
        {"why": why, "message": message, "manifest": manifest(**changes)}
        for why, message, changes in [
            ("a later version", "has version 2", {"version": 2}),
            ("an unknown version", "version", {"version": "1"}),
            ("another format", "format", {"format": "other"}),
            ("one class", "classes", {"classes": ["one"]}),
            ("a class that is no name", "classes", {"classes": ["a", 1]}),
            ("no input", "input", {"input": []}),
            (
                "no operating point",
                "operating_points",
                {"operating_points": []},
            ),
            (
                "a threshold that is no number",
                "operating_points",
                {"operating_points": [point | {"threshold": "0.5"}]},
            ),
            (
                "fewer class thresholds than classes",
                "operating_points",
                {
                    "operating_points": [
                        point | {"class_thresholds": [0.5, 0.5]}
                    ]
                },
            ),
            (
                "a class threshold that is no number",
                "operating_points",
                {
                    "operating_points": [
                        point | {"class_thresholds": [0.5, "0.5", 0.5]}
                    ]
                },
            ),
            (
                "a file outside of the bundle",
                "student",
                {"student": files | {"file": "../student.tflite"}},
            ),
            (
                "a hash that is none",
                "student",
                {"student": files | {"sha256": "abc"}},
            ),
        ]
    ]


def rows():
    """Returns rows of the manifest's input, and why they are refused."""
    return [
        {"row": [0.0, 0.25, 0.5, 1.0], "error": None},
        {"row": [0.0, 0.25, 0.5, None], "error": "finite"},
        {"row": [0.0, 64.0, 128.0, 255.0], "error": "range"},
        {"row": [-9.0, 0.0, 0.0, 0.0], "error": "range"},
        {"row": [0.0, 0.25, 0.5], "error": "4 numbers"},
    ]


def quantizations():
    """Returns floats, and the integers that an 8-bit student takes for them."""
    values = [0.0, 0.25, 0.75, -0.25, 1.0, 0.1, 0.333, 1e6, -1e6]
    cases = [
        ("int8", 0.5, 0),
        ("int8", 1 / 255, -128),
        ("uint8", 0.0157, 127.5),
    ]
    for dtype, scale, zero_point in cases:
        limits = np.iinfo(dtype)
        steps = np.float32(values) / np.float32(scale) + np.float32(zero_point)
        integers = np.clip(np.rint(steps), limits.min, limits.max)
        yield {
            "dtype": dtype,
            "quantization": {"scale": scale, "zero_point": zero_point},
            "values": values,
            "integers": integers.astype(int).tolist(),
        }


def answers(identity):
    """Returns answers of a server to `POST /v2/models/teacher/infer`."""
    logits = [3.0, -1.0, 0.5]
    shape = [1, 3]

    def body(**changes):
        output = {"name": "logits", "datatype": "FP32", "shape": shape}
        output |= {"data": logits} | changes.pop("output", {})
        content = {
            "model_name": "teacher",
            "parameters": {"teacher": identity},
            "outputs": [output],
        }
        return content | changes

    other = "0" * 64
    cases = [
        ("an answer", 200, identity, body(), None),
        ("its identity in the body alone", 200, None, body(), None),
        ("a stranger", 200, other, body(), "not the bundle's"),
        ("no identity", 200, None, body(parameters={}), "identity"),
        ("another shape", 200, identity,
         body(output={"shape": [1, 2], "data": [1.0, 2.0]}), "logits"),
        ("fewer values", 200, identity, body(output={"data": [1.0]}), "logits"),
        ("no number", 200, identity,
         body(output={"data": [1.0, None, 2.0]}), "logits"),
        ("no such output", 200, identity,
         body(output={"name": "other"}), "logits"),
        ("no object", 200, identity, [], "logits"),
        ("overload", 429, identity, {"error": "busy"}, "429"),
        ("no token", 401, identity, {"error": "token"}, "401"),
    ]  # fmt: skip
    for why, status, stated, content, error in cases:
        yield {
            "why": why,
            "status": status,
            "headers": {} if stated is None else {"x-cascade-teacher": stated},
            "body": json.dumps(content),
            "logits": None if error else logits,
            "error": error,
        }


def identity_of(content):
    """Hash of a bundle's teacher, as docs/identity.md defines it."""
    teacher = content["teacher"]
    hashed = {
        "classes": content["classes"],
        "files": teacher["files"],
        "output": teacher["output"],
        "text": None,
    }
    if "onnx" in teacher:
        clip = struct.pack(">d", teacher["onnx"]["clip"]).hex()
        hashed["onnx"] = teacher["onnx"] | {"clip": clip}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def teachers():
    """Returns manifests with other teachers: their identities and outputs."""
    whole = manifest()["teacher"]
    for onnx in ONNX:
        content = manifest(teacher=whole | {"format": "onnx", "onnx": onnx})
        yield {
            "why": f"an ONNX file's {onnx['outputs']}",
            "manifest": content,
            "identity": identity_of(content),
            "output": "logits",
        }
    for why, remote, output in [
        ("one at a URL", {"identity": "1" * 64, "output": "scores"}, "scores"),
        ("one without a stated identity", {"identity": None}, "logits"),
    ]:
        described = {"kind": "Url", "url": "https://t.example/v2/models/t"}
        yield {
            "why": why,
            "manifest": manifest(
                teacher=None, remote_teacher=described | remote
            ),
            "identity": remote["identity"],
            "output": output,
        }


def vectors():
    """Returns all vectors, JSON-able."""
    whole = manifest()
    identity = identity_of(whole)
    return {
        "about": "Written by `python -m tests.helpers.deploy_vectors`. A number"
        " that is null is NaN.",
        "manifest": whole,
        "thresholds": {name: rounded(one) for name, one in POINTS.items()},
        "identity": identity,
        "teachers": list(teachers()),
        "decisions": list(decisions()),
        "refused": refused(),
        "rows": rows(),
        "quantizations": list(quantizations()),
        "answers": list(answers(identity)),
    }


def rounded(threshold):
    """A threshold, or a list of one for each class, in float32."""
    return np.clip(threshold, -LARGEST, LARGEST).astype("float32").tolist()


def text():
    """Returns the content of `deploy/vectors.json`."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")

"""JSON inputs: what is valid is read as before, whatever its size and form."""

import asyncio
import json
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.serving import json_tensors, rest_v1, rest_v2
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.text_teacher import text_bundle

MAX_ROWS = 8


def spec(name, dtype, *sizes, bounds=None):
    return {
        "name": name, "shape": [None, *sizes], "dtype": dtype, "range": bounds,
    }  # fmt: skip


SPECS = [
    [spec("input", "float32", 3)],
    [spec("input", "float32")],
    [spec("input", "float64", 2, 3, 1)],
    [spec("input", "float32", 2, 2, bounds=[0.0, 1.0])],
    [spec("ids", "int32", None), spec("mask", "bool", None)],
    [spec("a", "uint8", 1, 2), spec("b", "float32"), spec("t", "string")],
    [spec("t", "string", 2)],
]
TYPES = {"float32": "FP32", "float64": "FP64", "int32": "INT32",
         "bool": "BOOL", "uint8": "UINT8", "string": "BYTES"}  # fmt: skip


def reader(specs):
    """A `LoadedTeacher` that only checks inputs."""
    limits = Limits(max_batch=MAX_ROWS)
    return LoadedTeacher(text_bundle(specs), None, limits, ServerMetrics())


def read_v1(body, specs, teacher=None):
    teacher = teacher or reader(specs)
    return teacher.check(rest_v1.read_request(body, specs, teacher.max_rows)[0])


def read_v2(body, specs, teacher=None):
    teacher = teacher or reader(specs)
    read = rest_v2.read_request(
        body, len(body), specs, "logits", teacher.max_rows
    )
    return teacher.check(read.inputs)


def elements(dtype):
    if dtype == "string":
        return (
            st.text(min_size=1, max_size=5)
            .filter(str.strip)
            .filter(lambda text: text.isprintable())
        )
    if dtype == "bool":
        return st.booleans()
    if dtype == "uint8":
        return st.integers(0, 255) | st.booleans()
    if dtype == "int32":
        return st.integers(-(2**31), 2**31 - 1)
    return st.floats(-1e30, 1e30) | st.integers(-(2**40), 2**40) | st.booleans()


@st.composite
def columns(draw):
    """Specs, and lists of valid values for each."""
    specs = draw(st.sampled_from(SPECS))
    rows, length = draw(st.integers(1, MAX_ROWS)), draw(st.integers(1, 4))

    def nested(one, sizes):
        if not sizes:
            return draw(elements(one["dtype"]))
        return [nested(one, sizes[1:]) for _ in range(sizes[0])]

    return specs, {
        one["name"]: nested(
            one, [rows, *(size or length for size in one["shape"][1:])]
        )
        for one in specs
    }


def flat(values):
    return (
        [x for v in values for x in flat(v)]
        if isinstance(values, list)
        else [values]
    )


def v1_bodies(specs, values):
    names = [one["name"] for one in specs]
    rows = zip(*values.values(), strict=True)
    yield {"inputs": values}
    yield {
        "signature_name": "serving_default",
        "instances": [dict(zip(names, row, strict=True)) for row in rows],
    }
    if len(names) == 1:
        yield {
            "instances": values[names[0]],
            "signature_name": "serving_default",
        }
        yield {"inputs": values[names[0]]}


def v2_bodies(specs, values):
    for flatten in (False, True):
        yield {
            "id": "1",
            "ignored": [[[]], {"a": "]"}],
            "inputs": [
                {
                    "data": flat(x) if flatten else x,
                    "name": one["name"],
                    "shape": list(np.asarray(x, object).shape),
                    "datatype": TYPES[one["dtype"]],
                    "ignored": {"x": [1]},
                }
                for one, x in zip(specs, values.values(), strict=True)
            ],
        }


@settings(deadline=None, max_examples=60)
@given(
    drawn=columns(),
    indent=st.none() | st.integers(0, 2),
    ascii_=st.booleans(),
    piece=st.integers(1, 60),
)
def test_valid_requests_are_read_as_before(drawn, indent, ascii_, piece):
    """Against `prepare_inputs` on the values themselves.

    As small bodies and as large ones, in pieces of any size.
    """
    specs, values = drawn
    try:
        expected = prepare_inputs(values, specs, allow_single=False)
    except ValueError as error:
        expected = error  # pixels where the model takes numbers up to 1
    teacher = reader(specs)
    for read, bodies in ((read_v1, v1_bodies), (read_v2, v2_bodies)):
        for content in bodies(specs, values):
            body = json.dumps(content, indent=indent, ensure_ascii=ascii_)
            for small in (json_tensors.SMALL, 0):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(json_tensors, "SMALL", small)
                    patch.setattr(json_tensors, "PIECE", piece)
                    if isinstance(expected, ValueError):
                        with pytest.raises(RequestError) as raised:
                            read(body.encode(), specs, teacher)
                        assert raised.value.status == 400
                        assert raised.value.message == str(expected)
                        continue
                    received = read(body.encode(), specs, teacher)
                for name, array in expected.items():
                    assert received[name].dtype == array.dtype
                    np.testing.assert_array_equal(received[name], array)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 300) | st.just("t"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["input", "b64", "x"]), inner, max_size=2
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(
    value=JSON | st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4),
    key=st.sampled_from(["instances", "inputs"]),
    dtype=st.sampled_from(["float32", "string"]),
    piece=st.integers(1, 30),
)
def test_large_and_small_bodies_are_judged_alike(value, key, dtype, piece):
    """Any value, also lists that have the right number of elements."""
    specs = [spec("input", dtype, 2)]
    body = json.dumps({key: value}).encode()
    outcomes = []
    for small in (json_tensors.SMALL, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_tensors, "SMALL", small)
            patch.setattr(json_tensors, "PIECE", piece)
            try:
                outcomes.append(read_v1(body, specs)["input"].tolist())
            except RequestError as error:
                outcomes.append(error.status)
    assert outcomes[0] == outcomes[1] or set(outcomes) <= {400, 413}


def body_of(element, size, around=(b'{"instances":[', b"0]}")):
    """A JSON text of about `size` bytes that repeats an element."""
    return around[0] + element * (size // len(element)) + around[1]


SIZE = 2_000_000
DATA = (
    b'{"inputs":[{"name":"input","datatype":"%s","shape":[1,1000],"data":[',
    b"0]}]}",
)
ATTACKS = {
    "lists": b"[],",
    "empty strings": b'"",',
    "objects": b"{},",
    "strings": b'"ab",',
    "digits": b"1,",
    "fractions": b"0.1,",
    "numbers": b"300,",
    "escapes": b'"\\n",',
    "base64": b'{"b64":"YQ=="},',
    "nested": b"[[1],[2,3]],",
    "white space": b" " * 50 + b"1,",
    "one string": b"",
}


#: Few elements: the parser reads the whole text.
WHOLE = ("white space", "number", "one")


@pytest.mark.parametrize("dtype", ["float32", "string"])
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("attack", [*ATTACKS, "deep", "keys", "number", "one"])
def test_memory_is_bounded_by_the_size_of_the_body(attack, dtype, free):
    """Whatever is in it: at most seven times as much beside the body."""
    specs = [spec("input", dtype, *([None] if free else [1000]))]
    datatype = TYPES[dtype].encode()
    if attack == "deep":
        bodies = [b'{"instances":' + b"[" * SIZE]
    elif attack == "keys":
        keys = b",".join(b'"%d":1' % n for n in range(SIZE // 9))
        bodies = [b"{%s}" % keys, b'{"inputs":{%s}}' % keys]
    elif attack == "number":
        bodies = [body_of(b"1", SIZE)]
    elif attack == "one":
        wide = b"\\ud83d\\ude00" + b"a" * SIZE
        bodies = [b'{"instances":["%s"]}' % wide]
    else:
        element = ATTACKS[attack] or b"1,"
        start, end = DATA
        bodies = [
            body_of(element, SIZE),
            body_of(element, SIZE, (b'{"instances":[[', b"0]]}")),
            body_of(element, SIZE, (b'{"inputs":{"input":[', b"0]}}")),
            body_of(element, SIZE, (b'{"instances":[{"input":[', b"0]}]}")),
            body_of(element, SIZE, (start % datatype, end)),
        ]
    teacher = reader(specs)
    for body in bodies:
        for read in (read_v1, read_v2):
            tracemalloc.start()
            try:
                read(body, specs, teacher)
            except RequestError as error:
                assert error.status in (400, 413)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # orjson reserves, and does not touch, room for wide characters.
            reserved = dtype == "string" and attack in WHOLE
            assert peak < (20 if reserved else 7) * len(body), body[:40]


def test_strings_among_numbers_take_no_room():
    """NumPy gave each string the width of the longest: 2 GB for 256 KB."""
    values = ["1"] * 8000 + ["2" * 20_000]
    for body in (
        json.dumps({"instances": [values]}),
        json.dumps(
            {
                "inputs": [
                    {
                        "name": "input",
                        "datatype": "FP32",
                        "shape": [1, 8001],
                        "data": values,
                    }
                ]
            }
        ),
    ):
        assert len(body) < json_tensors.SMALL
        specs = [spec("input", "float32", 8001)]
        read = read_v1 if "instances" in body else read_v2
        tracemalloc.start()
        with pytest.raises(RequestError, match="Received: str"):
            read(body.encode(), specs)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000


def test_a_large_request_is_parsed_outside_of_the_event_loop():
    specs = [spec("input", "float32", 3)]

    async def run():
        service = TeacherService(reader(specs))
        small = await service.parsed(10, threading.current_thread)
        medium = await service.parsed(100_000, threading.current_thread)
        large = await service.parsed(10_000_000, threading.current_thread)
        return small, medium, large

    small, medium, large = asyncio.run(run())
    assert small is threading.current_thread()
    assert len({small, medium, large}) == 3


@pytest.mark.parametrize(
    ("sizes", "limit"),
    [
        # 64 KiB, and for each of 8 rows 256 bytes and 64 per value.
        ((3,), 65536 + 8 * (256 + 3 * 64)),
        ((28, 28, 1), 65536 + 8 * (256 + 784 * 64)),
        # Never above `max_request_bytes`, by default 64 MiB.
        ((1000, 1000), 64 * 2**20),
        ((None,), 64 * 2**20),
    ],
)
def test_the_largest_request_follows_from_the_manifest(sizes, limit):
    teacher = reader([spec("input", "float32", *sizes)])
    assert teacher.max_request_bytes == limit
    assert TeacherService(teacher).max_request_bytes == limit


def test_the_longest_valid_request_is_within_the_limit():
    specs = [spec("input", "float64", 2, 3), spec("other", "float64", 1)]
    value = -2.2250738585072014e-308  # 24 characters, the most of a float64
    row = {"input": [[value] * 3] * 2, "other": [value]}
    body = json.dumps({"instances": [row] * MAX_ROWS}, indent=4)
    assert len(body) < reader(specs).max_request_bytes


@pytest.mark.parametrize("dtype", ["float32", "string"])
@pytest.mark.parametrize(
    "shape",
    [
        [0, 2**62, 2**62, 1],
        [1, 0, 2**62, 2**62],
        [1, 2**62, 2**62, 1],
        [2**62, 4, 1, 1],
        [1, 2**33, 2**33, 2**33],
        [1, False, True, 1],
        [1, 1, -1, -1],
        [1, 1, 1],
    ],
)
def test_impossible_shapes_are_the_clients_error(shape, dtype):
    """Of sizes that are all free; in JSON and in bytes."""
    specs = [spec("input", dtype, None, None, None)]
    tensor = {"name": "input", "datatype": TYPES[dtype], "shape": shape}
    for more in ({"data": []}, {"parameters": {"binary_data_size": 0}}):
        body = json.dumps({"inputs": [{**tensor, **more}]}).encode()
        with pytest.raises(RequestError) as raised:
            read_v2(body, specs)
        assert raised.value.status == 400
        assert "'input'" in raised.value.message


def test_an_empty_tensor_with_rows_is_still_read():
    specs = [spec("input", "float32", None)]
    body = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "datatype": "FP32",
                    "shape": [2, 0],
                    "data": [],
                }
            ]
        }
    )
    assert read_v2(body.encode(), specs)["input"].shape == (2, 0)


def test_large_lists_of_short_numbers_are_read():
    """orjson reserves too little for these after a first white space."""
    row = [1] * 100_000 + [0]
    body = json.dumps({"instances": [row]}, separators=(",", ":")).encode()
    (read,) = read_v1(body, [spec("input", "float32", None)]).values()
    np.testing.assert_array_equal(read, [row])


def test_rows_beyond_the_limit_are_refused_by_their_count():
    specs = [spec("input", "float32", None)]
    for start, end in ((b'{"instances":[', b"[]]}"), (b'{"inputs":[', b"[]]}")):
        body = start + b"[]," * 30_000 + end
        with pytest.raises(RequestError) as raised:
            read_v1(body, specs)
        assert raised.value.status == 413
        assert "30001" in raised.value.message

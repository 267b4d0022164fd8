"""Conversions in a child process."""

import json
import os
import signal
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.errors import ExportError
from keras_cascade.export import converter_child, tflite_conversion
from keras_cascade.export.converter_process import PROGRAM, ConverterProcess
from keras_cascade.export.converter_settings import ConverterSettings

#: The program, without TensorFlow; a request's result is the child's number.
WITHOUT_TENSORFLOW = f"""
    import importlib.util, os, signal
    spec = importlib.util.spec_from_file_location("program", {str(PROGRAM)!r})
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program._load_tensorflow = lambda: None
    def answer(folder):
        (folder / program.RESULT_FILE).write_text(str(os.getpid()))
    program.answer = answer
"""


@pytest.fixture
def converter(tmp_path):
    """A function that makes a `ConverterProcess` with changed program."""
    made = []

    def make(changes=""):
        file = tmp_path / "program.py"
        code = textwrap.dedent(WITHOUT_TENSORFLOW) + textwrap.dedent(changes)
        file.write_text(f"{code}\nprogram.main()\n", "utf-8")
        made.append(ConverterProcess(file))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def answered_by(converter):
    """Process id of the child that a conversion ran in."""
    return int(converter.convert("model", ConverterSettings()))


@pytest.fixture
def small():
    """A cascade, and calibration data."""
    layers = keras.layers
    teacher, student = (
        keras.Sequential([keras.Input((6,)), layers.Dense(4, name="only")])
        for _ in range(2)
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype("float32")
    return kc.Cascade(teacher, student), (x, rng.integers(0, 4, 80))


def test_this_process_never_converts(small, tmp_path, monkeypatch):
    import tensorflow as tf
    from tensorflow.lite.python import convert

    def never(*args, **kwargs):
        raise AssertionError("the converter ran in this process")

    monkeypatch.setattr(tf.lite, "TFLiteConverter", never)
    monkeypatch.setattr(tf.lite.experimental, "QuantizationDebugger", never)
    for name in ("convert_saved_model", "mlir_quantize", "convert"):
        monkeypatch.setattr(convert, name, never)
    cascade, data = small
    for options in (
        {},
        {"quantization": "dynamic"},
        {"quantization": "int8", "float_layers": ["only"]},
    ):
        cascade.export(
            tmp_path / "s.tflite", format="litert", calibration_data=data,
            **options,
        )  # fmt: skip
        assert (tmp_path / "s.tflite").stat().st_size > 500


def test_one_child_until_it_has_answered_enough(converter):
    changed = converter("program.MOST_REQUESTS = 2")
    children = [answered_by(changed) for _ in range(5)]
    assert children[0] == children[1] != children[2] == children[3]
    assert children[4] not in children[:4]


def test_a_child_that_has_grown_is_replaced(converter):
    changed = converter("""
        sizes = iter([1, 1, 2 + program.MOST_GROWTH])
        program._resident_bytes = lambda: next(sizes)
    """)
    children = [answered_by(changed) for _ in range(3)]
    assert children[0] == children[1] != children[2]


def test_an_idle_child_ends(converter):
    changed = converter("program.IDLE = 1e-3")
    changed.start()
    assert changed._process.wait() == converter_child.DONE


def test_start_does_not_start_a_second(converter):
    changed = converter()
    changed.start()
    first = changed._process.pid
    changed.start()
    assert answered_by(changed) == first


DYING = """
    def answer(folder):
        (folder / program.RESULT_FILE).write_bytes(b'half')
        {}
    program.answer = answer
"""


@pytest.mark.parametrize(
    "code, text",
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL.*memory runs out"),
        ("os.abort()", r"was ended by signal SIGABRT"),
        ("raise SystemError('no more')", r"(?s)status 1\. .*no more$"),
        ("os._exit(program.DONE)", r"ended with exit status 0"),
    ],
)
def test_a_child_that_dies_is_one_clear_error(converter, code, text):
    changed = converter(DYING.format(code))
    for _ in range(2):  # the next conversion has a child of its own
        with pytest.raises(ExportError, match=text) as caught:
            answered_by(changed)
        assert "Nothing was kept. Free memory" in str(caught.value)
        assert changed.process_id is None


def test_an_export_whose_child_is_killed_leaves_nothing(
    small, converter, tmp_path, monkeypatch
):
    killed = converter(DYING.format("os.kill(os.getpid(), signal.SIGKILL)"))
    monkeypatch.setattr(tflite_conversion, "CONVERTER", killed)
    cascade, data = small
    target = tmp_path / "out"
    target.mkdir()
    for file, options in (("bundle", {}), ("s.tflite", {"format": "litert"})):
        with pytest.raises(ExportError, match=r"^The student was not conver"):
            cascade.export(target / file, calibration_data=data, **options)
    assert list(target.iterdir()) == []


def test_an_interrupt_ends_the_child(converter):
    # A process that was started in the background ignores it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    changed = converter("""
        def interrupting(folder):
            os.kill(os.getppid(), signal.SIGINT)
            signal.pause()
        whole = program.answer
        program.answer = interrupting
    """)
    changed.start()
    process = changed._process
    try:
        with pytest.raises(KeyboardInterrupt):
            answered_by(changed)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert process.returncode == -signal.SIGKILL
    assert changed._process is None


def test_an_interrupt_of_the_terminal_does_not_reach_the_child(converter):
    changed = converter()
    first = answered_by(changed)
    os.kill(first, signal.SIGINT)
    assert answered_by(changed) == first


def test_a_forked_process_has_a_child_of_its_own(converter):
    changed = converter()
    first = answered_by(changed)
    inherited = changed._process
    descriptors = [inherited.stdin.fileno(), inherited.stdout.fileno()]
    reads, writes = os.pipe()
    fork = os.fork()
    if not fork:
        answer = {}
        try:
            for number in descriptors:
                try:
                    os.fstat(number)
                except OSError:
                    answer.setdefault("closed", []).append(number)
            answer["child"] = answered_by(changed)
            changed.stop()
        finally:
            os.write(writes, json.dumps(answer).encode())
            os._exit(0)
    os.waitpid(fork, 0)
    answer = json.loads(os.read(reads, 1 << 16))
    os.close(reads)
    os.close(writes)
    assert answer["closed"] == descriptors
    assert answer["child"] != first
    assert answered_by(changed) == first


def test_the_child_ends_with_its_parent(converter):
    """A process that was forked from the parent does not keep it."""
    reads, writes = os.pipe()
    waits, ends = os.pipe()
    parent = os.fork()
    if not parent:
        # The child's errors go to the pipe: it ends when the child does.
        os.environ["KERAS_CASCADE_NATIVE_LOGS"] = "1"
        os.dup2(writes, 2)
        changed = converter()
        answered_by(changed)
        if not os.fork():
            os.close(2)
            os.close(writes)
            os.close(ends)
            os.read(waits, 1)  # longer than its parent and the child
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    os.close(writes)
    while os.read(reads, 1 << 16):
        pass  # ends when the child has ended
    for number in (reads, waits, ends):
        os.close(number)


def test_a_result_that_the_disk_has_no_room_for(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converter_child, "_converted", lambda *_: b"content")
    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / converter_child.REQUEST_FILE).write_text('{"saved_model": ""}')
    converter_child.answer(tmp_path)
    error = json.loads((tmp_path / converter_child.ERROR_FILE).read_text())
    assert error["kind"] == "disk" and "No space left" in error["text"]


def test_the_error_of_a_full_disk(converter):
    changed = converter("""
        program.answer = lambda folder: program._write_error(
            folder, "disk", OSError("No space left on device")
        )
    """)
    with pytest.raises(ExportError, match=r"device\. Is there room on the"):
        answered_by(changed)


def test_the_converters_words_are_a_note_of_its_error(converter):
    changed = converter("""
        def answer(folder):
            os.write(2, b"said first")
            program._write_error(folder, "converter", ValueError("no such op"))
        program.answer = answer
    """)
    for _ in range(2):
        with pytest.raises(ExportError, match=r"^no such op\n") as caught:
            answered_by(changed)
        assert caught.value.__notes__ == ["Native libraries wrote:\nsaid first"]


def test_representative_data_as_it_was(converter):
    """The child reads the arrays that the parent gave, in their order."""
    rows = [
        {"b/..": np.full((1, 2), n, "int32"), "a": np.full((1,), -n, "float32")}
        for n in range(12)
    ]
    changed = converter("""
        import json
        def answer(folder):
            request = json.loads((folder / program.REQUEST_FILE).read_text())
            rows = [
                {name: (array.tolist(), str(array.dtype))
                 for name, array in row.items()}
                for row in program._representative(folder, request)
            ]
            (folder / program.RESULT_FILE).write_text(json.dumps(rows))
        program.answer = answer
    """)
    read = changed.convert("model", ConverterSettings("int8", rows))
    assert json.loads(read) == [
        {
            "b/..": [[[n, n]], "int32"],
            "a": [[-float(n)], "float32"],
        }
        for n in range(12)
    ]

"""LiteRT interpreter of the student and its gate."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

import numpy as np

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.runtime.integer_inputs import with_integer_inputs
from keras_cascade.runtime.tokenized import student_with_tokenizer
from keras_cascade.utils.answer_form import (
    ANSWER_NAMES,
    PROBABILITIES,
    AnswerForm,
    answer_name,
    fits,
)
from keras_cascade.utils.forks import never_free_in_forks
from keras_cascade.utils.native_output import hidden_native_output

SIGNATURE = "serving_default"
#: Outputs beside the answers, which are `probabilities` or `values`.
DECISION = ("score", "delegate")
#: Outputs of one class per example.
OUTPUTS = (PROBABILITIES, *DECISION)

_students: weakref.WeakSet[StudentInterpreter] = weakref.WeakSet()


class StudentInterpreter:
    """Runs the bundle's TFLite file, with one interpreter per thread.

    An interpreter is not thread-safe, and its thread pool does not survive a
    fork: a forked child creates interpreters of its own. All of them read the
    same copy of the file's bytes, in memory: a file that is exchanged or
    truncated later has no effect.

    Args:
        file: path of a TFLite file with the signature `serving_default`, or
            its content as bytes.
        num_threads: int, threads inside one interpreter. Defaults to `1`.
        name: str, what errors call the file. Defaults to `None`: its path.
    """

    def __init__(
        self,
        file: str | os.PathLike | bytes,
        num_threads: int = 1,
        name: str | None = None,
    ):
        if isinstance(file, bytes):
            self._file, self._content = name or "the TFLite file", file
        else:
            self._file = name or str(file)
            self._content = _read(file)
        self._num_threads = num_threads
        self._local = threading.local()
        _students.add(self)
        self._runner()  # fail now rather than on the first request

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`, bool. Of another task than classes the
            answers have its shape, and are called `values` where they are no
            probabilities.
        """
        try:
            outputs = self._runner()(**inputs)
        except RuntimeError as error:
            raise self._unusable(error) from error
        outputs["delegate"] = outputs["delegate"].astype(bool)
        return outputs

    def input_names(self) -> list[str]:
        """Returns the names of the inputs, as the signature has them."""
        return sorted(self._runner().get_input_details())

    def row_shapes(self) -> dict[str, list[int]]:
        """Returns the sizes of one row per input; 1 for a free size."""
        details = self._runner().get_input_details()
        return {
            name: detail["shape"][1:].tolist()
            for name, detail in details.items()
        }

    def check(self, specs: list[dict], answers: AnswerForm) -> None:
        """Raises an error unless inputs and answers are those of a manifest.

        Args:
            specs: list of `{"name", "shape", "dtype"}`, the batch first, and
                `"quantization"` where it is stated.
            answers: `AnswerForm`.

        Raises:
            BundleError: the file has others.
        """
        details = self._runner().get_input_details()
        self._check_scales(specs, details)
        inputs = {
            name: (_dtype(detail), _row(detail))
            for name, detail in details.items()
        }
        expected = {
            spec["name"]: (spec["dtype"], spec["shape"][1:]) for spec in specs
        }
        outputs = self._runner().get_output_details()
        name = answer_name(outputs)
        sizes = _row(outputs[name])
        answered = name == answers.name and _answers_fit(sizes, answers.sizes)
        if not _fits(expected, inputs) or not answered:
            raise BundleError(
                f"'{self._file}' does not fit its manifest. Expected: inputs "
                f"{expected} and {_described(answers.name, answers.sizes)}. "
                f"Received: inputs {inputs} and {_described(name, sizes)}. "
                "Export the bundle again."
            )

    def _check_scales(self, specs, details):
        """Compares the scales of inputs that are integers."""
        for spec in specs:
            stated, detail = spec.get("quantization"), details.get(spec["name"])
            # Pixels of -1 to 1 have a zero point that no file can hold.
            if stated is None or detail is None or stated["zero_point"] % 1:
                continue
            scale, zero_point = detail["quantization"]
            own = (float(np.float32(scale)), int(zero_point))
            expected = (
                float(np.float32(stated["scale"])),
                stated["zero_point"],
            )
            if own != expected:
                raise BundleError(
                    f"'{self._file}' does not fit its manifest. Expected: "
                    f"'{spec['name']}' with the scale {stated['scale']} and "
                    f"zero point {stated['zero_point']}. Received: {own[0]} "
                    f"and {own[1]}. Export the bundle again."
                )

    def close(self) -> None:
        """Releases all per-thread interpreters; the next run creates one."""
        self.forget()

    def forget(self) -> None:
        """Drops what a forked child inherited; takes no lock."""
        self._local = threading.local()

    def _runner(self):
        local = self._local
        if not hasattr(local, "runner"):
            try:
                with hidden_native_output():
                    interpreter = self._interpreter()
                    interpreter.allocate_tensors()  # LiteRT logs here
                runner = interpreter.get_signature_runner(SIGNATURE)
            except (RuntimeError, ValueError) as error:
                raise self._unusable(error) from error
            outputs = runner.get_output_details()
            missing = {answer_name(outputs), *DECISION} - set(outputs)
            if missing:
                raise BundleError(
                    f"'{self._file}' lacks the outputs {sorted(missing)}. "
                    "Export the bundle again."
                )
            never_free_in_forks(runner)
            local.runner = runner
        return local.runner

    def _interpreter(self):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        interpreter = Interpreter(
            model_content=self._content, num_threads=self._num_threads
        )
        # XNNPACK, LiteRT's default, rounds otherwise than microcontrollers.
        # A file of int8 inputs is for those, and LiteRT's own kernels are as
        # fast.
        if any(map(_is_quantized_int8, interpreter.get_input_details())):
            interpreter = Interpreter(
                model_content=self._content,
                num_threads=self._num_threads,
                experimental_op_resolver_type=(
                    OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
        return interpreter

    def _unusable(self, error):
        return BundleError(
            f"LiteRT cannot run '{self._file}': {str(error)[:300]} Export the "
            "bundle again."
        )


def _forget_inherited_interpreters():
    for student in _students:
        student.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited_interpreters)


def open_student(bundle: Bundle, num_threads: int = 1):
    """Opens a bundle's student, behind its tokenizer where it has one.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        num_threads: int, threads inside one interpreter. Defaults to `1`.

    Returns:
        Object with `run(inputs)`, for inputs as the manifest has them.

    Raises:
        BundleError: the file or the tokenizer does not fit the manifest.
    """
    entry = bundle.manifest["student"]
    student = StudentInterpreter(
        bundle.read(entry.get("batch", entry)["file"]),
        num_threads,
        str(bundle.batch_student_file),
    )
    student.check(bundle.student_inputs, bundle.answer_form)
    return student_with_tokenizer(with_integer_inputs(student, bundle), bundle)


def run_row_by_row(run: Callable, inputs: dict[str, np.ndarray]) -> dict:
    """Outputs for rows that are run one by one.

    Args:
        run: function as `StudentInterpreter.run`, of one row.
        inputs: dict of input name to array, batch first.
    """
    rows = len(next(iter(inputs.values())))
    answers = [
        run({name: v[row : row + 1] for name, v in inputs.items()})
        for row in range(rows)
    ]
    return {
        name: np.concatenate([answer[name] for answer in answers])
        for name in (*ANSWER_NAMES, *DECISION)
        if name in answers[0]
    }


def _read(file):
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise BundleError(
            f"Expected a TFLite file. Received: '{file}', which cannot be "
            f"read ({error.strerror or error})."
        ) from error


def _dtype(detail):
    """Returns the type of an input, as the manifest names it."""
    dtype = np.dtype(detail["dtype"])
    return "string" if dtype.kind == "S" else dtype.name


def _is_quantized_int8(detail):
    """Returns `True` of int8 that stands for floats by a scale."""
    return detail["dtype"] == np.int8 and detail["quantization"][0] > 0


def _row(detail):
    """Returns the sizes of one row of an input; `None` for a free one."""
    sizes = detail["shape_signature"][1:].tolist()
    return [None if size < 0 else size for size in sizes]


def _answers_fit(in_file, sizes):
    """Compares sizes of an answer in the file; free ones fit all."""
    if None in in_file:
        sizes = [
            None if own is None else size
            for own, size in zip(in_file, sizes, strict=False)
        ]
        in_file = [1 if own is None else own for own in in_file]
    return fits(in_file, sizes)


def _described(name, sizes):
    if name == "probabilities" and len(sizes) == 1:
        return f"{sizes[0]} classes"
    return f"'{name}' of sizes {list(sizes)}"


def _fits(expected, inputs):
    """Returns `True` where the file takes rows as the manifest has them."""
    return expected.keys() == inputs.keys() and all(
        dtype == inputs[name][0]
        and len(row) == len(inputs[name][1])
        and all(
            size_in_file in (None, size)
            for size, size_in_file in zip(row, inputs[name][1], strict=True)
        )
        for name, (dtype, row) in expected.items()
    )

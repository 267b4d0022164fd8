"""Runtimes that run a bundle's student on the device."""

from __future__ import annotations

import warnings

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.runtime.integer_inputs import with_integer_inputs
from keras_cascade.runtime.student_interpreter import (
    StudentInterpreter,
    open_student,
)
from keras_cascade.runtime.tokenized import student_with_tokenizer

RUNTIMES = ("interpreter", "compiled")


def open_runtime(
    bundle: Bundle,
    num_threads: int = 1,
    runtime: str = "interpreter",
    accelerator: str = "cpu",
    fall_back: bool = True,
) -> tuple:
    """Opens a bundle's student, behind its tokenizer where it has one.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        num_threads: int, threads inside the runtime. Defaults to `1`.
        runtime: `"interpreter"` or `"compiled"`. Defaults to
            `"interpreter"`.
        accelerator: `"cpu"`, or with `"compiled"` also `"gpu"` or `"npu"`.
            Defaults to `"cpu"`.
        fall_back: bool. Runs on the CPU, with a warning, where the
            accelerator cannot be used. Defaults to `True`.

    Returns:
        `(student, accelerator)`: object with `run(inputs)`, and the
        accelerator that runs it.

    Raises:
        BundleError: the runtime cannot run the file.
        ValueError: there is no such runtime or accelerator.
    """
    if runtime not in RUNTIMES:
        raise ValueError(
            f"Expected `runtime` out of {list(RUNTIMES)}. Received: "
            f"{runtime!r}."
        )
    if runtime == "interpreter":
        if accelerator != "cpu":
            raise ValueError(
                "Expected `accelerator='cpu'` with runtime='interpreter'. "
                f"Received: {accelerator!r}, which goes with "
                "runtime='compiled'."
            )
        return open_student(bundle, num_threads), accelerator
    # Not before: a device with an interpreter needs none of it.
    from keras_cascade.runtime.compiled_student import ACCELERATORS

    if accelerator not in ACCELERATORS:
        raise ValueError(
            f"Expected `accelerator` out of {list(ACCELERATORS)}. Received: "
            f"{accelerator!r}."
        )
    student = _open_compiled(bundle, num_threads, accelerator, fall_back)
    tokenized = student_with_tokenizer(
        with_integer_inputs(student, bundle), bundle, fixed=True
    )
    return tokenized, student.accelerator


def _open_compiled(bundle, num_threads, accelerator, fall_back):
    """Opens a `CompiledStudent`, and compares its answers to probe rows.

    Returns:
        `CompiledStudent`, without the bundle's tokenizer. Its `accelerator`
        is the one that runs it.
    """
    from keras_cascade.runtime.compiled_student import AcceleratorError

    if accelerator != "cpu":
        try:
            return _checked(bundle, num_threads, accelerator)
        except AcceleratorError as error:
            if not fall_back:
                raise AcceleratorError(
                    f"accelerator='{accelerator}' cannot be used: {error}. "
                    "Load the bundle with accelerator='cpu'."
                ) from error
            warnings.warn(
                f"accelerator='{accelerator}' is not used, and the student "
                f"runs on the CPU: {error}.",
                stacklevel=5,
            )
    return _checked(bundle, num_threads, "cpu")


def _checked(bundle, num_threads, accelerator):
    """Returns a student whose answers to probe rows are those stated."""
    from keras_cascade.runtime.compiled_student import (
        AcceleratorError,
        CompiledStudent,
        reason_of,
    )
    from keras_cascade.runtime.student_probes import (
        difference_from_probes,
        student_probes,
    )

    entry = bundle.manifest["student"]
    content, name = bundle.read(entry["file"]), str(bundle.student_file)
    student = CompiledStudent(content, num_threads, name, accelerator)
    student.check(bundle.student_inputs, bundle.answer_form)
    probes = entry.get("probes")
    if probes is None:
        probes = student_probes(
            StudentInterpreter(content, num_threads, name),
            bundle.student_inputs,
            entry["sha256"][:16],
        )
    if probes is None:
        if accelerator == "cpu":  # LiteRT's own kernels
            return student
        raise AcceleratorError(
            "there is nothing to compare its answers with, as those to probe "
            "rows are not finite"
        )
    try:
        difference = difference_from_probes(student, bundle, probes)
    except BundleError as error:
        if accelerator == "cpu":
            raise
        raise AcceleratorError(reason_of(error)) from error
    if difference is None:
        return student
    if accelerator != "cpu":
        raise AcceleratorError(difference)
    raise BundleError(
        f"runtime='compiled' does not compute '{name}' as it was exported: "
        f"{difference}. Load the bundle with runtime='interpreter'."
    )

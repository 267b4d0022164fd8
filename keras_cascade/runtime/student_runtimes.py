"""Runtimes that run a bundle's student on the device."""

from __future__ import annotations

from keras_cascade.bundle import Bundle
from keras_cascade.runtime.student_interpreter import open_student
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
    from keras_cascade.runtime.compiled_student import (
        ACCELERATORS,
        open_compiled,
    )

    if accelerator not in ACCELERATORS:
        raise ValueError(
            f"Expected `accelerator` out of {list(ACCELERATORS)}. Received: "
            f"{accelerator!r}."
        )
    student = open_compiled(bundle, num_threads, accelerator, fall_back)
    tokenized = student_with_tokenizer(student, bundle, fixed=True)
    return tokenized, student.accelerator

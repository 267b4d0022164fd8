"""Executes TFLite files in TFLite Micro, the runtime of microcontrollers."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.tflite_file import read, signature_of
from keras_cascade.runtime.student_interpreter import (
    OUTPUTS,
    run_row_by_row,
)
from keras_cascade.utils.native_output import hidden_native_output

#: Bytes of an arena at most, and the step in which it is measured.
MOST_BYTES, STEP = 256 * 2**20, 1024
#: Finds the smallest arena by halving, from one that is enough. TFLite Micro
#: may end the process where an arena is too small, so each is tried in a child.
ARENA = """
import os, sys
from tflite_micro.python.tflite_micro import runtime
content, (step, most, *sizes) = sys.stdin.buffer.read(), map(int, sys.argv[1:])
def fits(size):
    process = os.fork()
    if not process:
        try:
            runtime.Interpreter.from_bytes(content, arena_size=size)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1] == 0
if sizes:
    print(*(int(fits(size)) for size in sizes))
    sys.exit()
enough = 64 * step
while not fits(enough):
    enough *= 2
    if enough > most:
        print(0)
        sys.exit()
too_small = 0
while enough - too_small > step:
    middle = (enough + too_small) // 2 // step * step
    if fits(middle):
        enough = middle
    else:
        too_small = middle
print(enough)
"""
MISSING = re.compile(r"Didn't find op for builtin opcode '(\w+)'")
#: An operation, and its number in the file.
FAILED = re.compile(r"Node (\w+) \(number (\d+)f?\) failed to")


class TFLiteMicroStudent:
    """Runs a bundle's TFLite file row by row, in TFLite Micro.

    Args:
        content: bytes of a TFLite file of one row, with the outputs
            `probabilities`, `score` and `delegate`.
        name: str, the file's name, for errors.
        source_of: function from the number of an operation to what an error
            calls its layer, or to `None`. Defaults to `None`: no layers are
            named.

    Attributes:
        arena_bytes: int, the smallest arena (a multiple of 1,024) that it runs
            in on this machine. Pointers of 32 bits need less.

    Raises:
        ExportError: `tflite-micro` is not installed, or cannot run the file.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        source_of: Callable[[int], str | None] | None = None,
    ):
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ImportError as error:
            raise ExportError(
                "The runtime 'tflite-micro' is not installed. Install it with "
                "`pip install tflite-micro`."
            ) from error
        self._runtime = runtime
        self._content = content
        self._name = name
        self._source_of = source_of
        model = read(content)
        signature = signature_of(model)
        graph = model.subgraphs[signature.subgraphIndex]
        self._inputs = _positions(signature.inputs, graph.inputs)
        self._outputs = _positions(signature.outputs, graph.outputs)
        self._shapes = {
            one.name.decode(): tuple(
                map(int, graph.tensors[one.tensorIndex].shape)
            )
            for one in signature.inputs
        }
        (self.arena_bytes,) = in_arenas(content)
        if not self.arena_bytes:
            self._opened(MOST_BYTES)  # raises
        # Room for where in memory this process has it.
        self._interpreter = self._opened(self.arena_bytes + STEP)
        for name, position in self._inputs.items():
            dtype = self._interpreter.get_input_details(position)["dtype"]
            self._interpreter.set_input(
                np.zeros(self._shapes[name], dtype), position
            )
        self._invoke_hidden()  # fail now rather than on the first example

    def row_shapes(self) -> dict[str, list[int]]:
        """Returns the sizes of one row per input."""
        return {name: list(shape[1:]) for name, shape in self._shapes.items()}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch, row by row.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`.
        """
        return run_row_by_row(self._row, inputs)

    def close(self) -> None:
        """Releases the interpreter and its arena."""
        self._interpreter = None

    def _row(self, inputs):
        for name, position in self._inputs.items():
            if inputs[name].shape != self._shapes[name]:
                raise ExportError(
                    f"'{self._name}' takes {self._shapes[name]} as '{name}' in "
                    f"TFLite Micro. Received: {inputs[name].shape}."
                )
            self._interpreter.set_input(inputs[name], position)
        try:
            self._interpreter.invoke()
        except RuntimeError:
            self._invoke_hidden()  # raises with what is said
            raise
        return {
            name: np.array(self._interpreter.get_output(self._outputs[name]))
            for name in OUTPUTS
        }

    def _invoke_hidden(self):
        """Invokes; an error has what TFLite Micro says."""
        try:
            with hidden_native_output():
                self._interpreter.invoke()
        except RuntimeError as error:
            raise self._unusable(error) from error

    def _opened(self, size):
        try:
            with hidden_native_output():
                return self._runtime.Interpreter.from_bytes(
                    self._content, arena_size=size
                )
        except RuntimeError as error:
            raise self._unusable(error) from error

    def _unusable(self, error):
        said = " ".join(getattr(error, "__notes__", ()))
        said = " ".join(said.removeprefix("Native libraries wrote:").split())
        missing, failed = MISSING.search(said), FAILED.search(said)
        why = said[:200] or str(error)
        if missing is not None:
            why = f"it lacks the operation {missing[1]}"
        elif failed is not None and self._source_of is not None:
            source = self._source_of(int(failed[2]))
            where = "" if source is None else f" (in {source})"
            said = said[: failed.start()].strip().rstrip(".")[:200]
            why = f"its {failed[1]}{where} cannot be prepared: {said}"
        return ExportError(
            f"TFLite Micro cannot run '{self._name}': {why.rstrip('.')}. "
            "Choose other layers or another gate."
        )


def in_arenas(content: bytes, sizes: Sequence[int] = ()) -> list[int]:
    """Tries arenas in a process of their own.

    Args:
        content: bytes of a TFLite file.
        sizes: numbers of bytes. Defaults to `()`: the smallest arena is
            looked for.

    Returns:
        List of 0 or 1 per size; without sizes the smallest one that fits, or
        0 where none does.
    """
    run = subprocess.run(
        [sys.executable, "-c", ARENA, *map(str, (STEP, MOST_BYTES, *sizes))],
        input=content,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return list(map(int, run.stdout.split()))


def _positions(named, tensors):
    """Dict of a signature's names to positions in the subgraph's tensors."""
    order = [int(number) for number in tensors]
    return {one.name.decode(): order.index(one.tensorIndex) for one in named}

"""A PyTorch module as a teacher."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import CLIP
from keras_cascade.teachers.teacher import Teacher
from keras_cascade.utils.optional_package import optional_package


class Torch(Teacher):
    """PyTorch module, in evaluation mode and without gradients.

    The module is put into evaluation mode here, and stays there. A saved
    cascade does not hold it: attach it again after loading, with
    `cascade.teacher = kc.teachers.Torch(module)`. A bundle does not hold it
    either; `torch.onnx.export` and `kc.teachers.Onnx` make one that does.

    Args:
        module: `torch.nn.Module` from one tensor, or from keyword tensors
            where the cascade's inputs are a dict, to one tensor.
        channels_first: bool. Moves the last axis of inputs with four axes to
            the second position: images as Keras has them, `(batch, height,
            width, channels)`, become those that PyTorch's models take.
            Defaults to `False`.
        device: str or `torch.device`, where the module is. Defaults to
            `None`: tensors stay on the CPU.
        outputs: of `Teacher`. Defaults to `"logits"`.
        clip: of `Teacher`. Defaults to `1e-7`.

    Example:

    ```python
    teacher = kc.teachers.Torch(resnet50, channels_first=True)
    cascade = kc.Cascade(teacher, student)
    ```
    """

    takes_probes = True

    def __init__(
        self,
        module: Any,
        channels_first: bool = False,
        device: Any = None,
        outputs: str = "logits",
        clip: float = CLIP,
    ) -> None:
        super().__init__(outputs, clip)
        self._torch = optional_package("torch", extra="torch")
        if not isinstance(module, self._torch.nn.Module):
            raise ValueError(
                "Expected a `torch.nn.Module`. Received: "
                f"{type(module).__name__}."
            )
        module.eval()
        self.module = module
        self.channels_first = channels_first
        self.device = device

    def answers(self, inputs: Any) -> np.ndarray:
        with self._torch.no_grad():
            if isinstance(inputs, dict):
                named = {name: self._tensor(x) for name, x in inputs.items()}
                answer = self.module(**named)
            else:
                answer = self.module(self._tensor(inputs))
            answer = getattr(answer, "logits", answer)  # transformers' outputs
            return np.asarray(answer.detach().cpu().numpy())

    def describe(self) -> str:
        return f"the PyTorch module '{type(self.module).__name__}'"

    def identity(self) -> str:
        kind = type(self.module).__qualname__
        digest = hashlib.sha256(
            f"{kind} {self.channels_first} {self.outputs} {self.clip}".encode()
        )
        for name, tensor in self.module.state_dict().items():
            array = np.ascontiguousarray(tensor.detach().cpu().numpy())
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "channels_first": self.channels_first,
            "module": type(self.module).__qualname__,
        }

    def _tensor(self, array):
        array = np.asarray(array)
        if self.channels_first and array.ndim == 4:
            array = np.moveaxis(array, -1, 1)
        # A copy: PyTorch warns of arrays that may not be written to.
        tensor = self._torch.from_numpy(np.array(array, order="C"))
        return tensor if self.device is None else tensor.to(self.device)

"""In the child: how many zeros and distinct values the kernels have."""

import numpy as np

from keras_cascade.export.optimization.compressing import PRUNABLE


def measured_kernels(model):
    """Measures every kernel as it ships, quantized where it is.

    Args:
        model: `tf_keras.Model`, nested ones included.

    Returns:
        Dict of layer name to `(share of zeros, distinct values)`. A quantized
        convolution has a scale a channel: there, the most distinct values of
        any channel.
    """
    return {
        name: (float((kernel == 0).mean()), _distinct(kernel, by_channel))
        for name, kernel, by_channel in _kernels(model)
    }


def _kernels(model):
    import tf_keras

    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from _kernels(layer)
        elif hasattr(layer, "quantize_config"):
            # What the wrapper puts in the kernel's place when it runs.
            for weight, quantizer, ranges in layer._weight_vars:
                kernel = quantizer(weight, False, weights=ranges)
                yield layer.layer.name, kernel.numpy(), kernel.ndim == 4
        elif type(layer).__name__ in PRUNABLE:
            sizes = {array.size: array for array in layer.get_weights()}
            yield layer.name, sizes[max(sizes)], False


def _distinct(kernel, by_channel):
    if not by_channel:
        return len(np.unique(kernel))
    channels = kernel.reshape(-1, kernel.shape[-1]).T
    return max(len(np.unique(channel)) for channel in channels)

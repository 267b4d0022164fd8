"""Names of the Keras layers that a TFLite file's operations come from."""

import re

import keras


class OperationLayers:
    """Finds the layer of an operation by the names of its tensors.

    Args:
        model: `keras.Model` that the file was converted from.
    """

    def __init__(self, model):
        every = list(model._flatten_layers())
        self._known = {layer.name for layer in every}
        self._single = {
            layer.name for layer in every if not isinstance(layer, keras.Model)
        }
        self._weighted = {layer.name for layer in every if layer.weights}

    def paths(self, graph):
        """Paths of models and layers that name each operation.

        An output of the file has a name of its own: there they are those of
        the kernel and bias.

        Args:
            graph: `SubGraphT` of a file.

        Returns:
            Dict of the name of an operation's output to list of paths, lists
            of str: several where operations were fused, none where nothing
            is known.
        """
        names = [tensor.name.decode() for tensor in graph.tensors]
        outputs = {i for op in graph.operators for i in op.outputs}
        paths = {}
        for operation in graph.operators:
            for output in operation.outputs:
                constants = [
                    names[i]
                    for i in operation.inputs
                    if i >= 0 and i not in outputs and i not in graph.inputs
                ]
                some = [names[output], *constants]
                name = next((n for n in some if "/" in n), "")
                paths[names[output]] = [
                    self._path(part) for part in name.split(";") if part
                ]
        return paths

    def layer(self, paths):
        """Name of the layer of an operation.

        Args:
            paths: list of paths, as `paths` returns for an operation, not
                empty.

        Returns:
            Str. An operation outside of layers has a name of its own.
        """
        inner = [
            part
            for path in paths
            for part in path[::-1]
            if part in self._single
        ]
        # Of a fused operation the layer that has weights, not its activation
        # or padding.
        inner = [part for part in inner if part in self._weighted] or inner
        return inner[-1] if inner else paths[0][-1]

    def _path(self, name):
        """Names of the models and layers that an operation is in.

        A graph appends numbers to make names unique.
        """
        parts = []
        for part in name.split("/"):
            plain = re.sub(r"_\d+$", "", part)
            parts.append(plain if plain in self._known else part)
        # An operation has a name to go by where no layer has it.
        if len(parts) > 1 and parts[-2] in self._single:
            return parts[:-1]
        return parts

"""Operations of a SavedModel's graph that reach out of the graph.

A SavedModel is a program: TensorFlow runs its graph with the rights of the
process. Nothing in a model that only computes needs a file, the network or
Python, so a graph that does is refused before it is loaded.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

_READS = "reads files"
_WRITES = "writes files"
_HOST = "runs code of the host that is not in the graph"
_NETWORK = "talks to other processes"
_CHECKPOINT = "reads or writes checkpoints, outside of the SavedModel's saver"

#: Operation to what it does. `Experimental` in front of a name changes nothing.
REFUSED = {
    **dict.fromkeys(
        (
            "CSVDataset", "CSVDatasetV2", "FixedLengthRecordDataset",
            "FixedLengthRecordDatasetV2", "FixedLengthRecordReader",
            "FixedLengthRecordReaderV2", "GenerateVocabRemapping",
            "ImmutableConst", "LMDBDataset", "LMDBReader",
            "ListSnapshotChunksDataset", "LoadAndRemapMatrix", "LoadDataset",
            "MatchingFiles", "MatchingFilesDataset", "ReadFile", "RecordInput",
            "Skipgram", "SnapshotChunkDataset", "SnapshotDatasetReader",
            "SnapshotNestedDatasetReader", "SqlDataset", "TFRecordDataset",
            "TFRecordDatasetV2", "TFRecordReader", "TFRecordReaderV2",
            "TextLineDataset", "TextLineReader", "TextLineReaderV2",
            "WholeFileReader", "WholeFileReaderV2",
        ),
        _READS,
    ),
    **dict.fromkeys(
        ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"),
        f"{_READS} that are not among the SavedModel's assets",
    ),
    **dict.fromkeys(
        (
            "CacheDataset", "CacheDatasetV2", "CalibrationStatisticsSaver",
            "CreateSummaryDbWriter", "CreateSummaryFileWriter",
            "DatasetToTFRecord", "DebugIdentity", "DebugIdentityV2",
            "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary",
            "DebugNumericSummaryV2", "DumpTensor", "ImportEvent",
            "SaveDataset", "SaveDatasetV2", "SnapshotDataset",
            "SnapshotDatasetV2", "StatsAggregatorSetSummaryWriter",
            "SummaryWriter", "WriteAudioSummary", "WriteFile",
            "WriteGraphSummary", "WriteHistogramSummary", "WriteImageSummary",
            "WriteRawProtoSummary", "WriteScalarSummary", "WriteSummary",
        ),
        _WRITES,
    ),
    **dict.fromkeys(
        (
            "DTensorRestoreV2", "MergeV2Checkpoints", "Restore",
            "RestoreSlice", "RestoreV2", "Save", "SaveSlices", "SaveV2",
        ),
        _CHECKPOINT,
    ),
    **dict.fromkeys(
        (
            # The last two run a graph that is hidden in a string or a tensor.
            "EagerPyFunc", "FileSystemSetConfiguration", "MlirPassthroughOp",
            "PyFunc", "PyFuncStateless", "XlaCustomCall", "XlaCustomCallV2",
            "XlaHostCompute", "XlaRecvFromHost", "XlaSendToHost",
            "_XlaHostComputeMlir", "DatasetFromGraph", "DeserializeIterator",
        ),
        _HOST,
    ),
    **dict.fromkeys(
        (
            "DataServiceDataset", "DataServiceDatasetV2",
            "DataServiceDatasetV3", "DataServiceDatasetV4", "DistributedSave",
            "RegisterDataset", "RegisterDatasetV2", "RemoteCall", "RpcCall",
            "RpcClient", "RpcServer", "RpcServerRegister", "RpcServerStart",
        ),
        _NETWORK,
    ),
}  # fmt: skip
#: Operation and attribute to the values, as prefixes, with which it only
#: computes; with any other it opens the file that the value names.
BY_ATTRIBUTE = {
    ("DecodeProtoV2", "descriptor_source"): ("local://", "bytes://"),
    ("EncodeProto", "descriptor_source"): ("local://", "bytes://"),
    ("FixedUnigramCandidateSampler", "vocab_file"): (),
    ("PrintV2", "output_stream"): ("stderr", "stdout", "log(",),
}  # fmt: skip
_TABLE_FROM_FILE = "InitializeTableFromTextFileV2"
_MAIN = ""  # the graph outside of every function


class GraphOperation(NamedTuple):
    """An operation that reaches out of the graph.

    Attributes:
        name: str, TensorFlow's name of it, such as `"ReadFile"`.
        reason: str, what it does.
        function: str, the function that it is in; empty: in none.
    """

    name: str
    reason: str
    function: str

    def __str__(self) -> str:
        where = f" in '{self.function}'" if self.function else ""
        return f"{self.name}{where} {self.reason}"


def file_operations(saved_model: Any) -> list[GraphOperation]:
    """Lists the operations of a SavedModel that reach out of its graph.

    Those of every function are looked at, whether or not something calls it.
    Two kinds that Keras writes are no finding: the saver's own reading and
    writing of checkpoints, where nothing but `saver_def` leads to it, and
    lookup tables that are filled from one of the SavedModel's own assets.

    Args:
        saved_model: `SavedModel` protocol buffer.

    Returns:
        List of `GraphOperation`, each once.
    """
    found: dict[GraphOperation, None] = {}
    for meta_graph in saved_model.meta_graphs:
        graph = _Graph(meta_graph)
        for function, node in graph.nodes():
            reason = _reason(node)
            if reason is None or graph.is_own(function, node, reason):
                continue
            found[GraphOperation(node.op, reason, function)] = None
    return list(found)


def _reason(node):
    name = node.op.removeprefix("Experimental")
    for (operation, attribute), harmless in BY_ATTRIBUTE.items():
        if name != operation:
            continue
        value = node.attr[attribute].s.decode(errors="replace")
        if value and not value.startswith(harmless or ("\0",)):
            return f"opens the file '{value[:100]}'"
    return REFUSED.get(name)


class _Graph:
    """The functions of one meta graph, and what leads to each.

    Args:
        meta_graph: `MetaGraphDef` protocol buffer.
    """

    def __init__(self, meta_graph):
        self._main = meta_graph.graph_def.node
        library = meta_graph.graph_def.library
        self._functions = {f.signature.name: f for f in library.function}
        self._objects = meta_graph.object_graph_def
        self._assets = meta_graph.asset_file_def
        self._calls = {
            name: set(self._named_in(function))
            for name, function in self._functions.items()
        }
        for gradient in library.gradient:
            self._calls.setdefault(gradient.function_name, set()).add(
                gradient.gradient_func
            )
        saver = meta_graph.saver_def
        savers = {
            name.partition(":")[0]
            for name in (saver.save_tensor_name, saver.restore_op_name)
            if name
        }
        saving, others = set(), set(self._objects.concrete_functions)
        for node in self._main:
            called = set(self._named_in_node(node))
            (saving if node.name in savers else others).update(called)
        # TensorFlow's optimizer may put one function in another's place.
        others |= {
            name
            for name, function in self._functions.items()
            if any("implements" in key for key in function.attr)
        }
        self._of_saver = self._reached(saving) - self._reached(others)

    def nodes(self) -> Iterator[tuple]:
        """Yields `(function, node)` of every node."""
        for node in self._main:
            yield _MAIN, node
        for name, function in self._functions.items():
            for node in function.node_def:
                yield name, node

    def is_own(self, function, node, reason):
        """Returns `True` for what Keras's own SavedModels do."""
        if reason == _CHECKPOINT:
            return function in self._of_saver
        return node.op == _TABLE_FROM_FILE and self._from_asset(function, node)

    def _from_asset(self, function, node):
        """Returns `True` if a table is filled from one of the assets.

        Its file name is then an argument that is bound to an asset, in a
        function that the loader calls, and nothing else.
        """
        concrete = self._objects.concrete_functions
        if function not in concrete or any(
            function in called for called in self._calls.values()
        ):
            return False
        names = [
            argument.name
            for argument in self._functions[function].signature.input_arg
        ]
        bound = concrete[function].bound_inputs
        asset_of = {
            name: self._objects.nodes[number].asset
            for name, number in zip(
                reversed(names), reversed(bound), strict=False
            )
            if self._objects.nodes[number].WhichOneof("kind") == "asset"
        }
        source = node.input[1] if len(node.input) > 1 else None
        if source not in asset_of:
            return False
        index = asset_of[source].asset_file_def_index
        if not 0 <= index < len(self._assets):
            return False
        name = self._assets[index].filename
        return bool(name) and name == posixpath.basename(name) and name != ".."

    def _reached(self, names):
        reached, waiting = set(), list(names)
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += self._calls.get(name, ())
        return reached

    def _named_in(self, function):
        for node in function.node_def:
            yield from self._named_in_node(node)
        yield from self._named_in_values(function.attr.values())

    def _named_in_node(self, node):
        if node.op in self._functions:
            yield node.op
        yield from self._named_in_values(node.attr.values())

    def _named_in_values(self, values):
        for value in values:
            functions = [value.func, *value.list.func]
            names = [one.name for one in functions]
            # Gradients are named by a string.
            names += [
                one.decode(errors="replace") for one in (value.s, *value.list.s)
            ]
            yield from (name for name in names if name in self._functions)
            for one in functions:
                if one.attr:
                    yield from self._named_in_values(one.attr.values())

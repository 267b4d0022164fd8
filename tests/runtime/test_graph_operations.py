"""Operations of a teacher's graph on files, the host and the network."""

import gc
import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.runtime.teachers.graph_operations import (
    BY_ATTRIBUTE,
    REFUSED,
    file_operations,
)
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits

X = np.ones((2, 6), "float32")
# Inputs and attributes by which an operation could name a file, a machine or
# code; and the operations that have one and do none of this.
NAMES = re.compile(
    r"file|path|dir$|address|url|prefix|library|protocol|graph_def|mlir"
    r"|data_source|descriptor|memory_region|db_uri|output_stream|^token$"
    r"|pattern"
)
HARMLESS = {
    "EncodeBase64", "RegexFullMatch", "RegexReplace", "RegexSplitWithOffsets",
    "StaticRegexFullMatch", "StaticRegexReplace",  # patterns of texts
    "ShardedFilename", "ShardedFilespec",  # make a string
    "SetStatsAggregatorDataset",  # a name in a summary
    "ExperimentalSetStatsAggregatorDataset",
    "_TPUCompileMlir", "_TPUCompileMlirPlaceholderProgramKey",  # need a TPU
}  # fmt: skip


def registered():
    """Every operation of this TensorFlow: name to its definition."""
    operations = op_def_pb2.OpList()
    operations.ParseFromString(
        pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    )
    return {one.name: one for one in operations.op}


def saved(folder, serving, **parts):
    """Saves a function of `input` as a SavedModel; returns its protobuf."""
    module = tf.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    module.serving = tf.function(
        serving, input_signature=[tf.TensorSpec([None, 6], name="input")]
    )
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": module.serving}
    )
    return parsed(folder)


def parsed(folder):
    return tf.__internal__.saved_model.parse_saved_model(str(folder))


def found(saved_model):
    return {one.name for one in file_operations(saved_model)}


def logits(value):
    """Logits that depend on a side effect's result."""
    return {"logits": tf.zeros((2, 4)) + 0 * tf.cast(value, tf.float32)}


def length(text):
    return tf.reduce_sum(tf.strings.length(text))


@tf.function
def read_inside():
    return length(tf.io.read_file("/etc/hostname"))


EVIL = {
    "ReadFile": lambda x: logits(length(tf.io.read_file("/etc/hostname"))),
    "MatchingFiles": lambda x: logits(length(tf.io.matching_files("/*"))),
    "EagerPyFunc": lambda x: logits(
        tf.py_function(lambda v: v, [x], tf.float32)[0, 0]
    ),
    "PyFunc": lambda x: logits(
        tf.numpy_function(lambda v: v, [x], tf.float32)[0, 0]
    ),
    "FixedUnigramCandidateSampler": lambda x: logits(
        tf.random.fixed_unigram_candidate_sampler(
            [[1]], 1, 1, False, 5, vocab_file="/etc/hostname"
        )[0]
    ),
    "DecodeProtoV2": lambda x: logits(
        tf.io.decode_proto(
            tf.strings.as_string(x[:1, 0]), "m", ["a"], [tf.int32],
            descriptor_source="/etc/hostname",
        )[0]
    ),
}  # fmt: skip
# Where in the graph it may be.
HIDDEN = {
    "in a function": lambda x: logits(read_inside()),
    "in a branch": lambda x: logits(
        tf.cond(tf.reduce_sum(x) > 1e9, read_inside, lambda: tf.constant(1))
    ),
    "in a loop": lambda x: logits(
        tf.while_loop(
            lambda i: i < 1, lambda i: i + tf.minimum(1, read_inside()), [0]
        )[0]
    ),
    "in a map": lambda x: logits(
        tf.map_fn(
            lambda v: read_inside(), x[:1, 0], fn_output_signature="int32"
        )
    ),
    "in a data set": lambda x: logits(
        tf.data.Dataset.range(1)
        .map(lambda i: read_inside())
        .reduce(0, lambda a, b: a + b)
    ),
}


@pytest.mark.parametrize("operation", EVIL)
def test_operations_that_reach_out(tmp_path, operation):
    assert found(saved(tmp_path, EVIL[operation])) == {operation}


@pytest.mark.parametrize("place", HIDDEN)
def test_wherever_it_is(tmp_path, place):
    (one,) = file_operations(saved(tmp_path, HIDDEN[place]))
    assert (one.name, one.reason) == ("ReadFile", "reads files")
    assert one.function
    assert str(one) == f"ReadFile in '{one.function}' reads files"


def test_a_file_that_is_written(tmp_path):
    def serving(x):
        with tf.control_dependencies([tf.io.write_file("/tmp/x", "x")]):
            return {"logits": tf.identity(x)}

    assert found(saved(tmp_path, serving)) == {"WriteFile"}


@pytest.mark.parametrize(
    ("stream", "reaches_out"), [("file:///tmp/x", True), ("stderr", False)]
)
def test_what_is_printed(tmp_path, stream, reaches_out):
    def serving(x):
        tf.print("x", output_stream=stream)
        return {"logits": x}

    expected = {"PrintV2"} if reaches_out else set()
    if stream == "stderr":
        stream = "file://replaced"  # `tf.print` takes no name of it
        model = saved(tmp_path, serving)
        for function in model.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "PrintV2":
                    node.attr["output_stream"].s = b"stderr"
    else:
        model = saved(tmp_path, serving)
    assert found(model) == expected


def test_a_function_that_nothing_calls(tmp_path):
    model = saved(tmp_path, lambda x: {"logits": x}, unused=read_inside)
    library = model.meta_graphs[0].graph_def.library
    extra = library.function.add()
    extra.signature.name = "nobody_calls"
    extra.node_def.add(name="r", op="ReadFile")
    assert found(model) == {"ReadFile"}


def test_a_node_outside_of_every_function(tmp_path):
    model = saved(tmp_path, lambda x: {"logits": x})
    model.meta_graphs[0].graph_def.node.add(name="w", op="WriteFile")
    (one,) = file_operations(model)
    assert str(one) == "WriteFile writes files"


def saver_functions(meta_graph):
    """Names of the functions that save and restore, by `saver_def`."""
    by_name = {node.name: node for node in meta_graph.graph_def.node}
    saver = meta_graph.saver_def
    return [
        by_name[name.partition(":")[0]].attr["f"].func.name
        for name in (saver.save_tensor_name, saver.restore_op_name)
    ]


def test_a_savers_checkpoints_are_its_own(bundle_path):
    """Every SavedModel has them; nothing else may lead to them."""
    folder = bundle_path / "teacher" / "1"
    graph = parsed(folder).meta_graphs[0].graph_def
    operations = {
        node.op for function in graph.library.function
        for node in function.node_def
    }  # fmt: skip
    assert {"SaveV2", "RestoreV2", "MergeV2Checkpoints"} <= operations
    assert found(parsed(folder)) == set()


def call_from_the_signature(meta_graph, name):
    function = signature(meta_graph)
    node = function.node_def.add(name="call", op="StatefulPartitionedCall")
    node.attr["f"].func.name = name


def call_by_name(meta_graph, name):
    signature(meta_graph).node_def.add(name="call", op=name)


def call_as_gradient(meta_graph, name):
    node = signature(meta_graph).node_def.add(name="call", op="Identity")
    node.attr["_gradient_op_type"].s = name.encode()


def call_through_another(meta_graph, name):
    other = meta_graph.graph_def.library.function.add()
    other.signature.name = "other"
    node = other.node_def.add(name="call", op="If")
    node.attr["branches"].list.func.add().name = name
    call_from_the_signature(meta_graph, "other")


def call_from_the_graph(meta_graph, name):
    node = meta_graph.graph_def.node.add(name="x", op="PartitionedCall")
    node.attr["f"].func.name = name


def give_to_the_loader(meta_graph, name):
    meta_graph.object_graph_def.concrete_functions[name].SetInParent()


def let_the_optimizer_choose(meta_graph, name):
    (function,) = [
        one for one in meta_graph.graph_def.library.function
        if one.signature.name == name
    ]  # fmt: skip
    function.attr["api_implements"].s = b"anything"


def rename_the_saver(meta_graph, name):
    meta_graph.saver_def.Clear()


def signature(meta_graph):
    names = meta_graph.object_graph_def.concrete_functions
    return next(
        one for one in meta_graph.graph_def.library.function
        if one.signature.name in names and "signature" in one.signature.name
    )  # fmt: skip


@pytest.mark.parametrize(
    "tamper",
    [
        call_from_the_signature,
        call_by_name,
        call_as_gradient,
        call_through_another,
        call_from_the_graph,
        give_to_the_loader,
        let_the_optimizer_choose,
        rename_the_saver,
    ],
)
def test_a_saver_that_something_else_leads_to(bundle_path, tamper):
    model = parsed(bundle_path / "teacher" / "1")
    (meta_graph,) = model.meta_graphs
    save, restore = saver_functions(meta_graph)
    tamper(meta_graph, restore)
    assert "RestoreV2" in found(model)
    assert ("SaveV2" in found(model)) == (tamper is rename_the_saver)
    assert save != restore


def test_other_operations_in_a_saver(bundle_path):
    model = parsed(bundle_path / "teacher" / "1")
    (meta_graph,) = model.meta_graphs
    save, _ = saver_functions(meta_graph)
    for function in meta_graph.graph_def.library.function:
        if function.signature.name == save:
            function.node_def.add(name="x", op="ReadFile")
    assert found(model) == {"ReadFile"}


@pytest.fixture(scope="module")
def with_a_vocabulary(tmp_path_factory):
    """A Keras model whose vocabulary is a file among the assets."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocabulary.txt").write_text("the\nquick\nfox\n")
    inputs = keras.Input((), dtype="string")
    vectors = keras.layers.TextVectorization(
        vocabulary=str(folder / "vocabulary.txt"), output_sequence_length=4
    )
    x = keras.layers.Embedding(10, 4)(vectors(inputs))
    outputs = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda text: {"logits": model(text)},
        [tf.TensorSpec([None], tf.string, name="text")],
    )
    archive.write_out(str(folder / "model"), verbose=False)
    return folder / "model"


def initializer(model):
    (function,) = [
        one for one in model.meta_graphs[0].graph_def.library.function
        if any(n.op == "InitializeTableFromTextFileV2" for n in one.node_def)
    ]  # fmt: skip
    (node,) = [
        n for n in function.node_def if n.op == "InitializeTableFromTextFileV2"
    ]
    return function, node


def test_a_table_of_an_asset(with_a_vocabulary):
    assert found(parsed(with_a_vocabulary)) == set()


def a_constant_path(model):
    function, node = initializer(model)
    constant = function.node_def.add(name="path", op="Const")
    constant.attr["value"].tensor.string_val.append(b"/etc/hostname")
    node.input[1] = "path:output:0"


def a_path_that_leads_out(model):
    model.meta_graphs[0].asset_file_def[0].filename = "../../etc/hostname"


def an_absolute_path(model):
    model.meta_graphs[0].asset_file_def[0].filename = "/etc/hostname"


def no_asset(model):
    function, _ = initializer(model)
    objects = model.meta_graphs[0].object_graph_def
    bound = objects.concrete_functions[function.signature.name].bound_inputs
    for number in bound:
        if objects.nodes[number].WhichOneof("kind") == "asset":
            objects.nodes[number].constant.operation = "path"


def no_such_asset(model):
    for node in model.meta_graphs[0].object_graph_def.nodes:
        if node.WhichOneof("kind") == "asset":
            node.asset.asset_file_def_index = 7


def another_caller(model):
    function, _ = initializer(model)
    call_from_the_signature(model.meta_graphs[0], function.signature.name)


def not_the_loaders(model):
    function, _ = initializer(model)
    del model.meta_graphs[0].object_graph_def.concrete_functions[
        function.signature.name
    ]


@pytest.mark.parametrize(
    "tamper",
    [
        a_constant_path, a_path_that_leads_out, an_absolute_path, no_asset,
        no_such_asset, another_caller, not_the_loaders,
    ],
)  # fmt: skip
def test_a_table_of_another_file(with_a_vocabulary, tamper):
    model = parsed(with_a_vocabulary)
    tamper(model)
    assert found(model) == {"InitializeTableFromTextFileV2"}


def test_every_operation_that_is_refused_exists():
    names = registered()
    for name in [*REFUSED, *(name for name, _ in BY_ATTRIBUTE)]:
        assert name in names, name
    for name, attribute in BY_ATTRIBUTE:
        assert attribute in {one.name for one in names[name].attr}


def test_every_operation_that_names_a_file_is_known():
    unknown = {}
    for name, operation in registered().items():
        strings = [
            one.name
            for one in operation.attr
            if one.type in ("string", "list(string)")
        ]
        names = [one.name for one in operation.input_arg] + strings
        suspicious = [one for one in names if NAMES.search(one)]
        short = name.removeprefix("Experimental")
        known = short in REFUSED or any(short == op for op, _ in BY_ATTRIBUTE)
        if suspicious and not known and name not in HARMLESS:
            unknown[name] = suspicious
    assert not unknown


@pytest.fixture
def make_bundle(bundle_path, tmp_path):
    """A function: a bundle with the SavedModel of a function as teacher."""

    def make(write):
        path = tmp_path / "bundle"
        shutil.copytree(bundle_path, path)
        folder = path / "teacher" / "1"
        shutil.rmtree(folder)
        write(folder)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["teacher"]["files"] = {
            file.relative_to(folder).as_posix(): hash_file(file)
            for file in folder.rglob("*")
            if file.is_file()
        }
        write_manifest(manifest, path / "manifest.json")
        return path

    return make


def test_a_bundle_is_refused_before_it_is_loaded(make_bundle, monkeypatch):
    path = make_bundle(lambda folder: saved(folder, EVIL["ReadFile"]))
    bundle = Bundle.load(path)

    def load(folder):
        raise AssertionError("its graph was loaded")

    monkeypatch.setattr(tf.saved_model, "load", load)
    opened = (
        lambda: SavedModelTeacher.of(bundle),
        lambda: open_teacher("local", bundle),
        lambda: LoadedTeacher.load(bundle, Limits(), ServerMetrics()),
    )
    for function in opened:
        with pytest.raises(
            BundleError, match=r"ReadFile in '.*' reads files.*trust whoever"
        ):
            function()


def test_a_graph_with_files_may_be_allowed(make_bundle, tmp_path):
    """Its files are then there as long as it is."""

    class Module(tf.Module):
        def __init__(self):
            (tmp_path / "text").write_text("12345")
            self.asset = tf.saved_model.Asset(str(tmp_path / "text"))

    module = Module()

    def serving(x):
        size = length(tf.io.read_file(module.asset.asset_path))
        return {"logits": tf.zeros((2, 4)) + tf.cast(size, tf.float32)}

    path = make_bundle(lambda folder: saved(folder, serving, part=module))
    (tmp_path / "text").unlink()
    teacher = SavedModelTeacher.of(Bundle.load(path), True)
    shutil.rmtree(path)
    np.testing.assert_array_equal(teacher.logits({"input": X}), 5.0)
    asset = teacher._model.part.asset.asset_path.numpy().decode()
    assert tf.io.gfile.exists(asset)
    del teacher
    gc.collect()
    assert not tf.io.gfile.exists(asset)


def test_a_teacher_needs_no_file_once_it_is_loaded(
    with_a_vocabulary, make_bundle, bundle_path
):
    """Nothing is read late: variables, tables and assets."""
    texts = np.array(["the fox", "quick"], object)
    expected = SavedModelTeacher(with_a_vocabulary).logits({"text": texts})
    path = make_bundle(
        lambda folder: shutil.copytree(with_a_vocabulary, folder)
    )
    teacher = SavedModelTeacher.of(Bundle.load(path))
    shutil.rmtree(path)
    np.testing.assert_array_equal(teacher.logits({"text": texts}), expected)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert "keras-cascade-teacher-" not in maps.read()


def test_it_is_what_the_manifest_says(bundle_path):
    folder = bundle_path / "teacher" / "1"
    expected = SavedModelTeacher(folder).logits({"input": X})
    found = SavedModelTeacher.of(Bundle.load(bundle_path)).logits({"input": X})
    np.testing.assert_array_equal(found, expected)

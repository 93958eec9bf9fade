"""Whether what is served asks for a privileged feature: read from the graphs, not believed of the code."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

_KEYS = "_keys"  # how the inputs and attributes of the parsing ops end that name features

Nodes = Mapping[str, node_def_pb2.NodeDef]


def find_privileged_inputs(saved_model_dir: str, privileged_names: Collection[str]) -> list[str]:
    """Finds every way by which a signature would read a privileged feature.

    Looked at are the signature's inputs and the features that are parsed of tf.Examples in the graph that
    computes its outputs, in functions that are called there too. A name in a vocabulary or in a function that
    nothing calls is none.

    Args:
      saved_model_dir: the directory of a SavedModel.
      privileged_names: names of raw features.

    Returns:
      "<signature>: <feature>", sorted.

    Raises:
      ValueError: if a parsing op's features are not constants, so that none can be ruled out.
    """
    with tf.io.gfile.GFile(os.path.join(saved_model_dir, "saved_model.pb"), "rb") as stream:
        content = saved_model_pb2.SavedModel.FromString(stream.read())
    found = set()
    for meta_graph in content.meta_graphs:
        for name, signature in meta_graph.signature_def.items():
            roots = [tensor.name for tensor in signature.outputs.values()]
            read = set(signature.inputs) | _find_parsed_features(meta_graph.graph_def, roots)
            found |= {f"{name}: {feature}" for feature in read & set(privileged_names)}
    return sorted(found)


def _find_parsed_features(graph: graph_pb2.GraphDef, roots: Iterable[str]) -> set[str]:
    """The features that are parsed on the way to the tensors named."""
    functions = {function.signature.name: function for function in graph.library.function}
    parsed: set[str] = set()
    seen: set[str] = set()
    waiting: list[tuple[Nodes, Iterable[str]]] = [({node.name: node for node in graph.node}, roots)]
    while waiting:
        nodes, roots = waiting.pop()
        for node in _reach(nodes, roots):
            if node.op.startswith("Parse") and "Example" in node.op:
                parsed |= _read_keys(node, nodes)
            for name in _named_functions(node) & functions.keys() - seen:
                seen.add(name)
                body = functions[name]
                outputs = [*body.ret.values(), *body.control_ret.values()]
                waiting.append(({inner.name: inner for inner in body.node_def}, outputs))
    return parsed


def _reach(nodes: Nodes, roots: Iterable[str]) -> Iterator[node_def_pb2.NodeDef]:
    """The nodes that the tensors named depend on; a function's arguments are no nodes of it."""
    seen: set[str] = set()
    waiting = [_node_name(root) for root in roots]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting.extend(map(_node_name, nodes[name].input))


def _node_name(tensor: str) -> str:
    """The node of `name`, `name:0`, `name:output:0` or, as a control input, `^name`."""
    return tensor.removeprefix("^").partition(":")[0]


def _named_functions(node: node_def_pb2.NodeDef) -> set[str]:
    """The functions that a node may call: its op, or what its attributes name."""
    values = [x for value in node.attr.values() for x in (value.func, *value.list.func)]
    return {node.op} | {value.name for value in values}


def _read_keys(node: node_def_pb2.NodeDef, nodes: Nodes) -> set[str]:
    """The features that a parsing op names, in attributes or in constant inputs."""
    keys = {key for name, value in node.attr.items() if name.endswith(_KEYS) for key in value.list.s}
    names = iter(node.input)
    for arg in op_def_registry.get(node.op).input_arg:
        count = node.attr[arg.number_attr].i if arg.number_attr else 1
        if arg.type_list_attr:
            count = len(node.attr[arg.type_list_attr].list.type)
        tensors = [next(names) for _ in range(count)]
        if arg.name.endswith(_KEYS):
            keys.update(key for tensor in tensors for key in _read_constant(tensor, node, nodes))
    return {key.decode() for key in keys}


def _read_constant(tensor: str, reader: node_def_pb2.NodeDef, nodes: Nodes) -> list[bytes]:
    node = nodes.get(_node_name(tensor))
    while node is not None and node.op == "Identity":
        node = nodes.get(_node_name(node.input[0]))
    if node is None or node.op != "Const":
        raise ValueError(
            f"{reader.op} {reader.name!r}: which features it parses is no constant of its graph. Expected "
            "one, so that privileged features can be ruled out: give tf.io.parse_example a dict of features."
        )
    return list(tf.make_ndarray(node.attr["value"].tensor).ravel())

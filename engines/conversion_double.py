"""Converters in double precision for what decides by thresholds: trees, and what is put before them.

The converter's own write thresholds, fillings and scales as float32, and a value between a threshold and its float32
takes the other branch than in scikit-learn. These write float64 and do the arithmetic in scikit-learn's order. They
raise NotImplementedError for what they do not know; single precision is tried then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from skl2onnx.operator_converters.common import concatenate_variables
from sklearn._loss.link import IdentityLink
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

Doubles = npt.NDArray[np.float64]
Converter = Callable[[Any, Any, Any], None]
ML_DOMAIN, ML_VERSION = "ai.onnx.ml", 3


@dataclass(frozen=True)
class Tree:
    """One tree, an element per node. A value at most the threshold goes left; where ``nan_left``, NaN does too.

    ``weights`` are what a leaf adds to the answer, ``rows`` how many rows of the training came by.
    """

    is_leaf: npt.NDArray[np.bool_]
    features: npt.NDArray[np.int64]
    thresholds: Doubles
    lefts: npt.NDArray[np.int64]
    rights: npt.NDArray[np.int64]
    nan_left: npt.NDArray[np.bool_]
    weights: Doubles
    rows: npt.NDArray[np.int64]

    @classmethod
    def boosted(cls, nodes: npt.NDArray[Any]) -> Tree:
        """A tree of the histogram kind. Raises NotImplementedError for one that splits by category."""
        if nodes["is_categorical"].any():
            raise NotImplementedError("trees that split by category")
        return cls(
            is_leaf=nodes["is_leaf"].astype(bool),
            features=nodes["feature_idx"].astype(np.int64),
            thresholds=nodes["num_threshold"].astype(np.float64),
            lefts=nodes["left"].astype(np.int64),
            rights=nodes["right"].astype(np.int64),
            nan_left=nodes["missing_go_to_left"].astype(bool),
            weights=nodes["value"].astype(np.float64),
            rows=nodes["count"].astype(np.int64),
        )

    @classmethod
    def grown(cls, tree: Any, *, is_classifier: bool, factor: float) -> Tree:
        """A tree of a forest. Raises NotImplementedError for more answers than one number."""
        values = tree.value[:, 0, :]
        if tree.value.shape[1:] != (1, 2 if is_classifier else 1):
            raise NotImplementedError("trees with several answers")
        answers = values[:, 1] / values.sum(axis=1) if is_classifier else values[:, 0]
        return cls(
            is_leaf=tree.children_left < 0,
            features=tree.feature.astype(np.int64),
            thresholds=tree.threshold.astype(np.float64),
            lefts=tree.children_left.astype(np.int64),
            rights=tree.children_right.astype(np.int64),
            nan_left=tree.missing_go_to_left.astype(bool),
            weights=answers * factor,
            rows=tree.n_node_samples.astype(np.int64),
        )


# ---------------------------------------------------------------------- converters, as skl2onnx calls them


def _boosting(scope: Any, operator: Any, container: Any) -> None:
    """Histogram boosting: compares in double."""
    model = operator.raw_operator
    if getattr(model, "_preprocessor", None) is not None or any(len(each) != 1 for each in model._predictors):
        raise NotImplementedError("boosting with categories or several answers")
    is_classifier = hasattr(model, "classes_")
    if not is_classifier and not isinstance(model._loss.link, IdentityLink):
        raise NotImplementedError("boosting with a link")
    trees = [Tree.boosted(each[0].nodes) for each in model._predictors]
    base = float(np.ravel(model._baseline_prediction)[0])
    answer = _sum(scope, container, _double_input(scope, operator, container), trees, base)
    if is_classifier:
        answer = _node(scope, container, "Sigmoid", [answer])
    _answer(scope, operator, container, answer)


def _gradient_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Classic boosting: rounds its input to single precision, then compares with double thresholds."""
    model = operator.raw_operator
    is_classifier = hasattr(model, "classes_")
    if model.init not in (None, "zero") or model.loss == "exponential" or model.estimators_.shape[1] != 1:
        raise NotImplementedError("boosting that begins or ends in its own way")
    trees = [
        Tree.grown(each.tree_, is_classifier=False, factor=model.learning_rate) for each in model.estimators_[:, 0]
    ]
    base = float(np.ravel(model._raw_predict_init(np.zeros((1, model.n_features_in_))))[0])
    answer = _sum(scope, container, _rounded_input(scope, operator, container), trees, base)
    if is_classifier:
        answer = _node(scope, container, "Sigmoid", [answer])
    _answer(scope, operator, container, answer)


def _forest(scope: Any, operator: Any, container: Any) -> None:
    """Forests and single trees: round their input to single precision, then compare with double thresholds."""
    model = operator.raw_operator
    is_classifier = hasattr(model, "classes_")
    members = getattr(model, "estimators_", [model])
    trees = [Tree.grown(each.tree_, is_classifier=is_classifier, factor=1 / len(members)) for each in members]
    answer = _sum(scope, container, _rounded_input(scope, operator, container), trees, 0.0)
    _answer(scope, operator, container, answer)


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """NaN replaced by the statistic; texts as the converter does it."""
    model = operator.raw_operator
    if isinstance(operator.inputs[0].type, StringTensorType):
        get_converter(operator.type)(scope, operator, container)
        return
    is_nan = isinstance(model.missing_values, float) and np.isnan(model.missing_values)
    filling = np.asarray(model.statistics_, dtype=np.float64)
    if not is_nan or model.add_indicator or np.isnan(filling).any():
        raise NotImplementedError("filling of anything but NaN in columns that stay")
    given = _double_input(scope, operator, container)
    missing = _node(scope, container, "IsNaN", [given])
    _give(
        operator.outputs[0],
        container,
        _node(scope, container, "Where", [missing, _doubles(scope, container, filling), given]),
    )


def _scaler(scope: Any, operator: Any, container: Any) -> None:
    """Mean taken away, then divided, as scikit-learn does it: times the inverse would round otherwise."""
    model = operator.raw_operator
    scaled = _double_input(scope, operator, container)
    for wanted, kind, by in ((model.with_mean, "Sub", model.mean_), (model.with_std, "Div", model.scale_)):
        if wanted:
            scaled = _node(scope, container, kind, [scaled, _doubles(scope, container, by)])
    _give(operator.outputs[0], container, scaled)


_FORESTS = (
    RandomForestClassifier,
    RandomForestRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)
CONVERTERS: dict[type, Converter] = {
    **dict.fromkeys((HistGradientBoostingClassifier, HistGradientBoostingRegressor), _boosting),
    **dict.fromkeys((GradientBoostingClassifier, GradientBoostingRegressor), _gradient_boosting),
    **dict.fromkeys(_FORESTS, _forest),
    SimpleImputer: _imputer,
    StandardScaler: _scaler,
}
"""What ``skl2onnx.convert_sklearn`` takes as ``custom_conversion_functions``."""


# ---------------------------------------------------------------------- nodes


def _node(scope: Any, container: Any, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Add a node; the name of its only output."""
    name: str = scope.get_unique_variable_name(kind.lower())
    container.add_node(kind, list(inputs), [name], name=scope.get_unique_operator_name(kind), **attributes)
    return name


def _doubles(scope: Any, container: Any, values: Any) -> str:
    name: str = scope.get_unique_variable_name("doubles")
    array = np.asarray(values, dtype=np.float64).ravel()
    container.add_initializer(name, TensorProto.DOUBLE, array.shape, array)
    return name


def _double_input(scope: Any, operator: Any, container: Any) -> str:
    """All inputs side by side, in double."""
    name: str = concatenate_variables(scope, operator.inputs, container)
    if all(isinstance(each.type, DoubleTensorType) for each in operator.inputs):
        return name
    return _node(scope, container, "Cast", [name], to=TensorProto.DOUBLE)


def _rounded_input(scope: Any, operator: Any, container: Any) -> str:
    """All inputs side by side, rounded to single precision, in double."""
    single = _node(scope, container, "Cast", [_double_input(scope, operator, container)], to=TensorProto.FLOAT)
    return _node(scope, container, "Cast", [single], to=TensorProto.DOUBLE)


def _give(output: Any, container: Any, name: str) -> None:
    """A double as the output, in the type that the converter has declared for it."""
    declared = TensorProto.DOUBLE if isinstance(output.type, DoubleTensorType) else TensorProto.FLOAT
    container.add_node("Cast", [name], [output.full_name], name=f"{output.full_name}_given", to=declared)


def _answer(scope: Any, operator: Any, container: Any, answer: str) -> None:
    """A regressor's prediction; a classifier's class and its two probabilities, of which ``answer`` is the second."""
    if not hasattr(operator.raw_operator, "classes_"):
        _give(operator.outputs[0], container, answer)
        return
    first = _node(scope, container, "Sub", [_doubles(scope, container, [1.0]), answer])
    both = _node(scope, container, "Concat", [first, answer], axis=1)
    _give(operator.outputs[1], container, both)
    likelier = _node(scope, container, "ArgMax", [both], axis=1, keepdims=0)
    container.add_node("Gather", [_classes(scope, operator, container), likelier], [operator.outputs[0].full_name])


def _classes(scope: Any, operator: Any, container: Any) -> str:
    classes = np.asarray(operator.raw_operator.classes_)
    name: str = scope.get_unique_variable_name("classes")
    if classes.dtype.kind in "iub":
        container.add_initializer(name, TensorProto.INT64, classes.shape, classes.astype(np.int64))
    else:
        texts = [str(each).encode() for each in classes]
        container.add_initializer(name, TensorProto.STRING, classes.shape, texts)
    return name


def _sum(scope: Any, container: Any, given: str, trees: Sequence[Tree], base: float) -> str:
    """The sum of the trees' answers and ``base``. ONNX compares and adds in double, then answers in single precision.

    A regressor's node for classifiers too: of theirs the transformation to a probability would be in single precision.
    """
    kind, attributes = "TreeEnsembleRegressor", _attributes(trees, base)
    single = _node(scope, container, kind, [given], op_domain=ML_DOMAIN, op_version=ML_VERSION, **attributes)
    return _node(scope, container, "Cast", [single], to=TensorProto.DOUBLE)


def _attributes(trees: Sequence[Tree], base: float) -> dict[str, Any]:
    """Trees as the attributes of an ensemble of ONNX."""
    sizes = [len(each.is_leaf) for each in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    leaf = np.concatenate([each.is_leaf for each in trees])

    def of_branches(field: str) -> npt.NDArray[Any]:
        return np.where(leaf, 0, np.concatenate([getattr(each, field) for each in trees]))

    weights = np.concatenate([each.weights for each in trees])[leaf]
    return {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "base_values_as_tensor": _tensor([base]),
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        "nodes_featureids": of_branches("features").tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values_as_tensor": _tensor(of_branches("thresholds")),
        "nodes_truenodeids": of_branches("lefts").tolist(),
        "nodes_falsenodeids": of_branches("rights").tolist(),
        "nodes_missing_value_tracks_true": of_branches("nan_left").astype(int).tolist(),
        "target_treeids": tree_ids[leaf].tolist(),
        "target_nodeids": node_ids[leaf].tolist(),
        "target_ids": [0] * len(weights),
        "target_weights_as_tensor": _tensor(weights),
    }


def _tensor(values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float64))


# ---------------------------------------------------------------------- what nobody asks for


def prune(graph: onnx.GraphProto) -> None:
    """Take away the nodes and values that nobody reads: ONNX Runtime would run such nodes for every row."""
    unread: list[onnx.NodeProto] | None = None
    read: set[str] = set()
    while unread is None or unread:
        read = {name for node in graph.node for name in _reads(node)} | {each.name for each in graph.output}
        unread = [node for node in graph.node if read.isdisjoint(node.output)]
        for node in unread:
            graph.node.remove(node)
    for value in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(value)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (each.name for each in graph.output)
            for inner in graph.node:
                yield from _reads(inner)

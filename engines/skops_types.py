"""What a ``.skops`` artifact may contain, and a look inside one that builds nothing.

A skops file is a zip of arrays and one ``schema.json`` that names the types to build. ``check`` reads only the zip's
directory and that JSON; it imports neither skops nor scikit-learn. The list below is ours: neither skops' default list
nor what a file or its signature ask for is obeyed. Sources: skops 0.16 ``_audit``, ``_general``, ``_sklearn``, and its
CVE-2024-37065, CVE-2025-54412, CVE-2025-54413, CVE-2025-54886.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

PROTOCOL = 2
"""The only protocol accepted: older ones are read by other code, which nobody needs for a new artifact."""
MAX_MEMBERS = 20_000
MAX_DIRECTORY_BYTES = 4 * 2**20
"""The zip's directory, which is read whole before anything else is known of the file."""
MAX_BYTES = 2**30
"""The most that a file's members may hold together, unpacked."""
FREE_BYTES = 64 * 2**20
MAX_RATIO = 50
"""Beyond ``FREE_BYTES``, members may hold so many times what they take in the file. Deflate reaches 1,000; the arrays
and the schema of a model 3 to 20."""
MAX_SCHEMA_BYTES = 32 * 2**20
CHUNK_BYTES = 2**20

_END = struct.Struct("<4s4H2LH")
"""The last record of a zip file: signature, four counts, the directory's size and place, the length of a comment."""
_LINK = 0o120000


class Unscorable(Exception):
    """An artifact that can not be loaded, or that does not answer; the message says why, for its owner."""


LOADERS = frozenset(
    {
        "DTypeNode",
        "DefaultDictNode",
        "DictNode",
        "FunctionNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "MaskedArrayNode",
        "NdArrayNode",
        "ObjectNode",
        "PartialNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
"""Ways of building an object. Not here: methods, operators, constructors from ``__reduce__``, back references."""

_TYPES_BY_MODULE: dict[str, str] = {
    "builtins": "bool bytes dict float int list set slice str tuple",
    "collections": "OrderedDict defaultdict",
    "functools": "partial",
    "numpy": (
        "bool bool_ bytes_ datetime64 dtype float16 float32 float64 int16 int32 int64 int8 ndarray object_ str_ "
        "timedelta64 uint16 uint32 uint64 uint8"
    ),
    "numpy.ma": "MaskedArray",
    "numpy.random": "MT19937 PCG64",
    "numpy.random._generator": "Generator",
    "numpy.random.mtrand": "RandomState",
    "scipy.sparse._csc": "csc_array csc_matrix",
    "scipy.sparse._csr": "csr_array csr_matrix",
    "sklearn._loss._loss": (
        "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss CyHalfPoissonLoss "
        "CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss"
    ),
    "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit",
    "sklearn._loss.loss": (
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss "
        "HalfSquaredError HuberLoss PinballLoss"
    ),
    "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration",
    "sklearn.cluster._kmeans": "KMeans MiniBatchKMeans",
    "sklearn.compose._column_transformer": "ColumnTransformer make_column_selector",
    "sklearn.compose._target": "TransformedTargetRegressor",
    "sklearn.decomposition._pca": "PCA",
    "sklearn.decomposition._truncated_svd": "TruncatedSVD",
    "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.ensemble._bagging": "BaggingClassifier BaggingRegressor",
    "sklearn.ensemble._forest": (
        "ExtraTreesClassifier ExtraTreesRegressor RandomForestClassifier RandomForestRegressor"
    ),
    "sklearn.ensemble._gb": "GradientBoostingClassifier GradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier HistGradientBoostingRegressor"
    ),
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.ensemble._iforest": "IsolationForest",
    "sklearn.ensemble._stacking": "StackingClassifier StackingRegressor",
    "sklearn.ensemble._voting": "VotingClassifier VotingRegressor",
    "sklearn.ensemble._weight_boosting": "AdaBoostClassifier AdaBoostRegressor",
    "sklearn.feature_extraction._hash": "FeatureHasher",
    "sklearn.feature_selection._univariate_selection": "SelectKBest SelectPercentile",
    "sklearn.feature_selection._variance_threshold": "VarianceThreshold",
    "sklearn.impute._base": "MissingIndicator SimpleImputer",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.linear_model._base": "LinearRegression",
    "sklearn.linear_model._bayes": "BayesianRidge",
    "sklearn.linear_model._coordinate_descent": "ElasticNet ElasticNetCV Lasso LassoCV",
    "sklearn.linear_model._glm.glm": "GammaRegressor PoissonRegressor TweedieRegressor",
    "sklearn.linear_model._huber": "HuberRegressor",
    "sklearn.linear_model._logistic": "LogisticRegression LogisticRegressionCV",
    "sklearn.linear_model._quantile": "QuantileRegressor",
    "sklearn.linear_model._ridge": "Ridge RidgeCV RidgeClassifier",
    "sklearn.linear_model._stochastic_gradient": "SGDClassifier SGDRegressor",
    "sklearn.metrics._dist_metrics": "EuclideanDistance64 ManhattanDistance64 MinkowskiDistance64",
    "sklearn.model_selection._split": "KFold StratifiedKFold",
    "sklearn.naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "sklearn.neighbors._classification": "KNeighborsClassifier",
    "sklearn.neighbors._kd_tree": "KDTree",
    "sklearn.neighbors._regression": "KNeighborsRegressor",
    "sklearn.neural_network._multilayer_perceptron": "MLPClassifier MLPRegressor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.preprocessing._data": (
        "Binarizer MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer RobustScaler "
        "StandardScaler"
    ),
    "sklearn.preprocessing._discretization": "KBinsDiscretizer",
    "sklearn.preprocessing._encoders": "OneHotEncoder OrdinalEncoder",
    "sklearn.preprocessing._function_transformer": "FunctionTransformer",
    "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
    "sklearn.preprocessing._polynomial": "PolynomialFeatures SplineTransformer",
    "sklearn.preprocessing._target_encoder": "TargetEncoder",
    "sklearn.svm._classes": "LinearSVC LinearSVR SVC SVR",
    "sklearn.tree._classes": ("DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor"),
    "sklearn.tree._tree": "Tree",
    "sklearn.utils._bunch": "Bunch",
}

_FUNCTIONS_BY_MODULE: dict[str, str] = {
    "numpy": "abs absolute cbrt cos exp expm1 log log10 log1p log2 sign sin sqrt square tan tanh",
    "scipy.special": "expit logit",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_regression",
    "sklearn.utils.validation": "check_array",
}


def _names(by_module: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in by_module.items() for name in names.split())


TYPES = _names(_TYPES_BY_MODULE)
"""Full names of the classes that an artifact may be built of."""
FUNCTIONS = _names(_FUNCTIONS_BY_MODULE)
"""Full names of the functions that an artifact may refer to: plain arithmetic without a side effect."""
TRUSTED = sorted(TYPES | FUNCTIONS)
"""What skops is told to trust, after ``check`` has passed."""


def check(artifact: Path | BinaryIO) -> None:
    """Raise ``Unscorable`` unless this is a whole skops file of bearable size with nothing but allowed types.

    Reads at most ``MAX_BYTES`` and builds no object of the file.
    """
    try:
        if isinstance(artifact, Path):
            with artifact.open("rb") as file:
                schema = _schema_in(file)
        else:
            schema = _schema_in(artifact)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError) as error:
        raise Unscorable(f"This is not a skops file: {str(error) or type(error).__name__}.") from error
    except (ValueError, RecursionError, RuntimeError) as error:  # RuntimeError: an encrypted member
        raise Unscorable("This is not a skops file: its content can not be read.") from error
    _check_schema(schema)


def _schema_in(file: BinaryIO) -> Any:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        _check_sizes(archive)
        return json.loads(archive.read("schema.json"))


def _check_directory(file: BinaryIO) -> None:
    """Refuse a directory that would be dear to read: zipfile reads all of it when it opens a file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    record = file.read()
    if len(record) < _END.size or record[:4] != b"PK\5\6":
        raise zipfile.BadZipFile("it does not end like a zip file without a comment")
    _, _, _, _, members, directory, _, comment = _END.unpack(record)
    if comment:
        raise zipfile.BadZipFile("it has a comment")
    file.seek(max(0, size - _END.size - 20))
    if file.read(4) == b"PK\6\7":
        raise Unscorable("The archive is in the 64-bit form, for more members or bytes than are accepted.")
    if members > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES:
        raise Unscorable(f"The archive holds {members} members; {MAX_MEMBERS} are accepted.")
    file.seek(0)


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse a bomb by what the directory declares, then by what packed members really hold."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise Unscorable(f"The archive holds {len(members)} members; {MAX_MEMBERS} are accepted.")
    declared = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if declared > MAX_BYTES:
        raise Unscorable(f"The archive unpacks to {declared} bytes; {MAX_BYTES} are accepted.")
    if declared > max(FREE_BYTES, MAX_RATIO * packed):
        raise Unscorable(f"The archive unpacks {packed} bytes to {declared}: more than {MAX_RATIO} times as many.")
    if any(member.filename == "schema.json" and member.file_size > MAX_SCHEMA_BYTES for member in members):
        raise Unscorable(f"Its schema.json is larger than the {MAX_SCHEMA_BYTES} bytes that are accepted.")
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise Unscorable("The archive holds two members of one name.")
    if "schema.json" not in names:
        pickled = any(name.endswith((".pkl", ".pickle")) for name in names)
        raise Unscorable(
            "The archive holds a pickle, as PyTorch writes it: loading it would run its code."
            if pickled
            else "This is not a skops file: the archive holds no schema.json."
        )
    for member in members:
        if (member.external_attr >> 16) & 0o170000 == _LINK:
            raise Unscorable("The archive holds a symbolic link.")
        _check_member(archive, member)


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Unpack a member piece by piece: zipfile stops at the declared size and compares the checksum at the end."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unscorable("Members must be stored or deflated.")
    read = 0
    with archive.open(member) as file:
        while chunk := file.read(CHUNK_BYTES):
            read += len(chunk)
    if read != member.file_size:
        raise Unscorable(f"The archive is cut short: {member.filename} holds {read} of {member.file_size} bytes.")


def _check_schema(schema: Any) -> None:
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise Unscorable("This is not a skops file: its schema.json describes no object.")
    protocol = schema.get("protocol")
    if protocol != PROTOCOL or isinstance(protocol, bool):
        raise Unscorable(f"It was written in skops protocol {protocol!r}; only {PROTOCOL} is read (skops 0.16).")
    refused = sorted({problem for node in _nodes(schema) if (problem := _problem(node))})
    if refused:
        shown = "; ".join(refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        raise Unscorable(f"It holds what is not on our list of types: {shown}.")


def _nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every description of an object in the schema, however deep."""
    waiting: list[Any] = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "__loader__" in each or "__class__" in each or "__module__" in each:
                yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _problem(node: dict[str, Any]) -> str | None:
    """Why this object may not be built; None when it may."""
    loader = str(node.get("__loader__"))[:60]
    name = f"{node.get('__module__')}.{node.get('__class__')}"[:200]
    if loader not in LOADERS:
        return f"{name} built by {loader}"
    if loader == "JsonNode":
        return None
    allowed = FUNCTIONS if loader == "FunctionNode" else TYPES
    return None if name in allowed else name

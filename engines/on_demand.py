"""Which Python an on-demand feature may be written in, and how it runs: one function of columns, row by row in meaning.

A function is text that a person sends to a portal, and it runs inside our process, where training sets are built and
where requests are answered. So it is parsed and every node of its tree must be on a list; what is not known is refused
with its line. Two things follow from the list:

* **Nothing but arithmetic can happen**: no import, attribute (but ``np.<listed>``), loop, comprehension, call of
  anything else, or name beyond its arguments. Sizes are bounded: of the text, the tree, constants; the work is a
  bounded number of vector operations.
* **A row's answer depends on that row alone**: every operation is elementwise (no ``mean``, ``cumsum``, ``sort``), so
  that a batch of a million rows in training and a single request in serving give the same cells.

The function takes its columns by the names of its arguments and returns a dict literal of features::

    def wind_chill(temp, wind: float, origin: str):
        cold = (temp < 50) & (wind > 3)
        return {"chill": np.where(cold, 35.74 + 0.6215 * temp, temp), "is_newark": origin == "EWR"}

Numbers, booleans (1 and 0) and times (seconds since 1970 UTC) arrive as float64 with NaN for null; an argument
annotated ``str`` arrives as text with None. Integers beyond 2^53 are rounded, alike on both sides. Comparisons with a
null are False, ``!=`` is True, as in numpy. A result that is NaN is null.
"""

from __future__ import annotations

import ast
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_CHARACTERS = 10_000
MOST_NODES = 1_000
DEEPEST = 60
LARGEST_NUMBER = 1e15
LONGEST_TEXT = 200
MOST_LISTED = 200
BEYOND_INT64 = 2.0**63

WHOLE, NUMBER, BOOL, TEXT = "whole", "number", "bool", "text"
"""Kinds of columns; a whole number is a number that may also be stored as an integer."""

DTYPES: Mapping[str, tuple[str, ...]] = {
    WHOLE: ("float64", "int64"),
    NUMBER: ("float64",),
    BOOL: ("bool",),
    TEXT: ("string",),
}
"""The types in which a result of each kind may be declared."""

Columns = Mapping[str, "pa.Array | pa.ChunkedArray"]
Vector = np.ndarray[Any, np.dtype[Any]]


class OnDemandError(ValueError):
    """A function is refused, or a column does not fit it. Says the line, why, and what would be accepted."""

    def __init__(self, reason: str, node: ast.AST | None = None) -> None:
        line = getattr(node, "lineno", None)
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line: int | None = line


_FLOAT_TO_FLOAT = frozenset(
    [
        "sqrt",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "radians",
        "degrees",
        "cbrt",
        "reciprocal",
    ]
)
_TO_WHOLE = frozenset({"floor", "ceil", "rint", "trunc", "sign"})
_KEEPING = frozenset({"abs", "absolute", "negative", "square"})
_OF_TWO = frozenset({"arctan2", "hypot", "power", "true_divide"})
_KEEPING_TWO = frozenset({"minimum", "maximum", "fmin", "fmax", "add", "subtract", "multiply"})
_TESTS = frozenset({"isnan", "isfinite", "isinf"})
_LOGICAL = frozenset({"logical_and", "logical_or", "logical_xor"})
_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "nan": math.nan}
FUNCTIONS: Final = (
    _FLOAT_TO_FLOAT
    | _TO_WHOLE
    | _KEEPING
    | _OF_TWO
    | _KEEPING_TWO
    | _TESTS
    | _LOGICAL
    | {"logical_not", "where", "clip", "isin"}
)
"""What may follow ``np.``, beside the constants pi, e and nan."""

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_BETTER: Mapping[type[ast.AST], str] = {
    ast.BoolOp: "'and' and 'or' do not work on columns; write & and | with each side in parentheses",
    ast.IfExp: "'if … else' does not work on columns; write np.where(condition, then, otherwise)",
    ast.If: "'if' does not work on columns; write np.where(condition, then, otherwise)",
    ast.For: "loops are not accepted; operations work on whole columns",
    ast.While: "loops are not accepted; operations work on whole columns",
    ast.Import: "imports are not accepted; np is there",
    ast.ImportFrom: "imports are not accepted; np is there",
    ast.ListComp: "comprehensions are not accepted; operations work on whole columns",
    ast.Lambda: "a function inside the function is not accepted",
    ast.FunctionDef: "a function inside the function is not accepted",
    ast.Subscript: "picking rows is not accepted: a row's features depend on that row alone",
    ast.Attribute: "attributes are not accepted, but np.<function>",
    ast.JoinedStr: "texts are not built here",
}


class Transform:
    """One function that has been read and found acceptable; ``apply`` runs it.

    ``inputs`` are its arguments, ``outputs`` the names it returns with their kinds, ``digest`` a SHA-256 over what it
    does: comments, layout, annotations of numbers and the docstring do not count. Raises OnDemandError.
    """

    def __init__(self, code: str) -> None:
        function = _parsed(code)
        checker = _Checker(function)
        self.name = function.name
        self.inputs: tuple[str, ...] = tuple(checker.arguments)
        self.outputs: Mapping[str, str] = checker.outputs()
        self._texts = frozenset(name for name, kind in checker.arguments.items() if kind == TEXT)
        plain = _stripped(function, self._texts)
        self.digest = hashlib.sha256(ast.unparse(plain).encode()).hexdigest()
        self._function = _compiled(plain)
        self._try()

    def __repr__(self) -> str:
        return f"<Transform {self.name}({', '.join(self.inputs)})>"

    def apply(self, columns: Columns) -> dict[str, pa.Array]:
        """Each feature for each row: float64, bool or string Arrow arrays, as long as the columns.

        A whole number that no 64-bit integer can hold is null. Raises OnDemandError where a column is missing or does
        not hold what the function takes.
        """
        missing = [name for name in self.inputs if name not in columns]
        if missing:
            raise OnDemandError(f"{self.name} needs the columns {', '.join(missing)}.")
        rows = len(columns[self.inputs[0]])
        given = [self._vector(name, columns[name]) for name in self.inputs]
        if any(len(vector) != rows for vector in given):
            raise OnDemandError(f"{self.name}: its columns differ in length.")
        with np.errstate(all="ignore"):
            results = self._function(*given)
        return {name: _as_arrow(results[name], kind, rows) for name, kind in self.outputs.items()}

    def _vector(self, name: str, column: pa.Array | pa.ChunkedArray) -> Vector:
        try:
            return _text_vector(column) if name in self._texts else _number_vector(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
            wanted = "text" if name in self._texts else "numbers (annotate the argument with str for text)"
            raise OnDemandError(f"{self.name}: {name} is {column.type}, it takes {wanted}.") from problem

    def _try(self) -> None:
        """Run it on no rows: what fails whatever the data is refused here."""
        nothing = {name: pa.array([], pa.string() if name in self._texts else pa.float64()) for name in self.inputs}
        try:
            self.apply(nothing)
        except (ArithmeticError, TypeError, ValueError) as problem:
            raise OnDemandError(f"{self.name} can not be computed: {problem}") from problem


@lru_cache(maxsize=256)
def transform(code: str) -> Transform:
    """The function of this text, read once per process."""
    return Transform(code)


# ---------------------------------------------------------------------- reading


def _parsed(code: str) -> ast.FunctionDef:
    if len(code) > MOST_CHARACTERS:
        raise OnDemandError(f"The function has {len(code):,} characters; at most {MOST_CHARACTERS:,} are accepted.")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        line = getattr(problem, "lineno", None)
        where = f"line {line}: " if line else ""
        raise OnDemandError(f"{where}this is not Python: {getattr(problem, 'msg', problem)}") from problem
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise OnDemandError(f"The function is too large: at most {MOST_NODES} parts are accepted.")
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        raise OnDemandError("Exactly one function is needed (def name(column, …): …), and nothing beside it.")
    return tree.body[0]


class _Checker:
    """Walks the one function, refuses what is not listed, and works out the kind of every expression."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self.function = function
        self.arguments = self._arguments(function)
        self._known: dict[str, str] = dict(self.arguments)
        self._depth = 0

    def outputs(self) -> dict[str, str]:
        """What the function returns: feature to kind."""
        body = self.function.body
        if self.function.decorator_list:
            raise OnDemandError("decorators are not accepted here", self.function.decorator_list[0])
        statements = body[1:] if _is_docstring(body[0]) else body
        for statement in statements[:-1]:
            self._assign(statement)
        if not statements or not isinstance(statements[-1], ast.Return):
            last = statements[-1] if statements else self.function
            why = _BETTER.get(type(last)) if statements else None
            raise OnDemandError(why or "the last statement must be: return {'feature': …, …}", last)
        return self._returned(statements[-1])

    def _arguments(self, function: ast.FunctionDef) -> dict[str, str]:
        given = function.args
        if given.posonlyargs or given.vararg or given.kwonlyargs or given.kwarg or given.defaults:
            raise OnDemandError("its arguments are column names: no defaults, no *, no /", function)
        if not given.args:
            raise OnDemandError("name at least one column as an argument", function)
        return {each.arg: self._argument_kind(each) for each in given.args}

    @staticmethod
    def _argument_kind(argument: ast.arg) -> str:
        if argument.arg == "np" or argument.arg.startswith("__"):
            raise OnDemandError(f"{argument.arg} can not be the name of a column", argument)
        noted = argument.annotation
        if noted is None:
            return NUMBER
        name = noted.id if isinstance(noted, ast.Name) else ""
        if name not in ("float", "int", "bool", "str"):
            raise OnDemandError(f"{argument.arg} may be annotated with float, int, bool or str", argument)
        return TEXT if name == "str" else NUMBER

    def _assign(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Return):
            raise OnDemandError("there is one return, at the end", statement)
        if not isinstance(statement, ast.Assign):
            raise OnDemandError(self._why(statement, "only 'name = …' and the return are accepted"), statement)
        target = statement.targets[0]
        if len(statement.targets) != 1 or not isinstance(target, ast.Name):
            raise OnDemandError("assign to one name at a time", statement)
        if target.id == "np" or target.id.startswith("__"):
            raise OnDemandError(f"{target.id} can not be assigned", statement)
        self._known[target.id] = self._kind(statement.value)

    def _returned(self, statement: ast.Return) -> dict[str, str]:
        value = statement.value
        if not isinstance(value, ast.Dict) or not value.keys:
            raise OnDemandError("return a dict literal: {'feature': …, …}", statement)
        found: dict[str, str] = {}
        for key, each in zip(value.keys, value.values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                raise OnDemandError("the returned dict has plain texts as keys", key or statement)
            if key.value in found:
                raise OnDemandError(f"{key.value!r} is returned twice", key)
            found[key.value] = self._kind(each)
        return found

    def _kind(self, node: ast.expr) -> str:
        self._depth += 1
        if self._depth > DEEPEST:
            raise OnDemandError(f"nested more than {DEEPEST} deep; name the parts", node)
        try:
            reader = self._READERS.get(type(node))
            if reader is None:
                raise OnDemandError(self._why(node, "this is not accepted"), node)
            kind: str = reader(self, node)
            return kind
        finally:
            self._depth -= 1

    def _name(self, node: ast.Name) -> str:
        if node.id not in self._known:
            raise OnDemandError(f"{node.id} is not known; there are {', '.join(self._known)} and np", node)
        return self._known[node.id]

    def _constant(self, node: ast.Constant) -> str:
        value = node.value
        if isinstance(value, bool):
            return BOOL
        if isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
                raise OnDemandError(f"constants lie between -{LARGEST_NUMBER:g} and {LARGEST_NUMBER:g}", node)
            return WHOLE if float(value).is_integer() else NUMBER
        if isinstance(value, str):
            if len(value) > LONGEST_TEXT:
                raise OnDemandError(f"a text has at most {LONGEST_TEXT} characters", node)
            return TEXT
        raise OnDemandError("constants are numbers, texts, True and False; write np.nan for null", node)

    def _attribute(self, node: ast.Attribute) -> str:
        if isinstance(node.value, ast.Name) and node.value.id == "np" and node.attr in _CONSTANTS:
            return WHOLE if node.attr == "nan" else NUMBER
        raise OnDemandError(_BETTER[ast.Attribute], node)

    def _binary(self, node: ast.BinOp) -> str:
        left, right = self._kind(node.left), self._kind(node.right)
        if isinstance(node.op, _BITWISE):
            self._need(node, BOOL, left, right)
            return BOOL
        if not isinstance(node.op, _ARITHMETIC):
            raise OnDemandError("the operators are + - * / // % ** & | ^", node)
        self._need(node, NUMBER, left, right)
        if isinstance(node.op, ast.FloorDiv):
            return WHOLE
        keeps = isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Mod)
        return WHOLE if keeps and left == right == WHOLE else NUMBER

    def _unary(self, node: ast.UnaryOp) -> str:
        kind = self._kind(node.operand)
        if isinstance(node.op, ast.Not):
            raise OnDemandError("'not' does not work on columns; write ~", node)
        self._need(node, BOOL if isinstance(node.op, ast.Invert) else NUMBER, kind)
        return kind

    def _compare(self, node: ast.Compare) -> str:
        if len(node.ops) != 1:
            raise OnDemandError("compare two at a time: (a < b) & (b < c)", node)
        operation = node.ops[0]
        if not isinstance(operation, _COMPARISONS):
            raise OnDemandError(
                "the comparisons are < <= > >= == !=; np.isin(column, [..]) tells what is in a list", node
            )
        left, right = self._kind(node.left), self._kind(node.comparators[0])
        if not isinstance(operation, ast.Eq | ast.NotEq):
            self._need(node, NUMBER, left, right)
        elif _family(left) != _family(right):
            raise OnDemandError(f"a {_family(left)} is compared with a {_family(right)}", node)
        return BOOL

    def _call(self, node: ast.Call) -> str:
        called = node.func
        is_numpy = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "np"
        if not is_numpy or not isinstance(called, ast.Attribute) or called.attr not in FUNCTIONS:
            name = ast.unparse(called)
            raise OnDemandError(f"{name}() is not accepted; there are np.{', np.'.join(sorted(FUNCTIONS))}", node)
        if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
            raise OnDemandError(f"np.{called.attr} takes its columns in order, without names", node)
        return self._function_kind(called.attr, node)

    def _function_kind(self, name: str, node: ast.Call) -> str:
        if name == "isin":
            return self._isin(node)
        kinds = [self._kind(each) for each in node.args]
        if name == "where":
            return self._where(node, kinds)
        wanted = 3 if name == "clip" else 2 if name in _OF_TWO | _KEEPING_TWO | _LOGICAL else 1
        if len(kinds) != wanted:
            raise OnDemandError(f"np.{name} takes {wanted}, not {len(kinds)}", node)
        if name in _LOGICAL or name == "logical_not":
            self._need(node, BOOL, *kinds)
            return BOOL
        self._need(node, NUMBER, *kinds)
        if name in _TESTS:
            return BOOL
        if name in _TO_WHOLE:
            return WHOLE
        keeps = name in _KEEPING | _KEEPING_TWO or name == "clip"
        return WHOLE if keeps and all(kind == WHOLE for kind in kinds) else NUMBER

    def _where(self, node: ast.Call, kinds: Sequence[str]) -> str:
        if len(kinds) != 3:
            raise OnDemandError("np.where takes a condition and two values", node)
        condition, then, otherwise = kinds
        self._need(node, BOOL, condition)
        if _family(then) != _family(otherwise):
            raise OnDemandError(f"np.where gives either a {_family(then)} or a {_family(otherwise)}", node)
        return then if then == otherwise else NUMBER

    def _isin(self, node: ast.Call) -> str:
        if len(node.args) != 2 or not isinstance(node.args[1], ast.List | ast.Tuple):
            raise OnDemandError("np.isin takes a column and a list of constants", node)
        kind, listed = self._kind(node.args[0]), node.args[1].elts
        if not 0 < len(listed) <= MOST_LISTED:
            raise OnDemandError(f"a list has 1 to {MOST_LISTED} constants", node)
        for each in listed:
            plain = each.operand if isinstance(each, ast.UnaryOp) and isinstance(each.op, ast.USub) else each
            if not isinstance(plain, ast.Constant) or _family(self._kind(each)) != _family(kind):
                raise OnDemandError(f"the list holds constants of the column's kind ({_family(kind)})", each)
        return BOOL

    @staticmethod
    def _need(node: ast.expr, family: str, *kinds: str) -> None:
        for kind in kinds:
            if _family(kind) != family:
                advice = "; np.where(flag, 1, 0) makes a number of it" if kind == BOOL else ""
                raise OnDemandError(f"a {family} is needed here, this is a {_family(kind)}{advice}", node)

    @staticmethod
    def _why(node: ast.AST, otherwise: str) -> str:
        return _BETTER.get(type(node), f"{otherwise} ({type(node).__name__})")

    _READERS: Final[Mapping[type[ast.expr], Callable[[Any, Any], str]]] = {
        ast.Name: _name,
        ast.Constant: _constant,
        ast.Attribute: _attribute,
        ast.BinOp: _binary,
        ast.UnaryOp: _unary,
        ast.Compare: _compare,
        ast.Call: _call,
    }


def _family(kind: str) -> str:
    return NUMBER if kind == WHOLE else kind


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


# ---------------------------------------------------------------------- running


class _AsColumns(ast.NodeTransformer):
    """What means the same of a constant and of a column.

    Every number becomes a float: columns are floats too, and integer powers can not grow without end. ``~`` becomes
    ``np.logical_not``, because Python's own turns True into -2.
    """

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = self.visit(node.operand)
        if isinstance(node.op, ast.Invert):
            return ast.Call(ast.Attribute(ast.Name("np", ast.Load()), "logical_not", ast.Load()), [operand], [])
        return ast.UnaryOp(node.op, operand)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            return ast.copy_location(ast.Constant(float(node.value)), node)
        return node


def _stripped(function: ast.FunctionDef, texts: Collection[str]) -> ast.FunctionDef:
    """The function as it is run and hashed: one name for every function, no docstring, no annotation but ``str``."""
    body = function.body[1:] if _is_docstring(function.body[0]) else function.body
    arguments = [
        ast.arg(each.arg, ast.Name("str", ast.Load()) if each.arg in texts else None) for each in function.args.args
    ]
    plain = ast.FunctionDef(
        name="on_demand",
        args=ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[]),
        body=[_AsColumns().visit(each) for each in body],
        decorator_list=[],
    )
    return ast.fix_missing_locations(plain)


def _compiled(plain: ast.FunctionDef) -> Callable[..., Mapping[str, Any]]:
    for each in plain.args.args:
        each.annotation = None
    scope: dict[str, Any] = {"np": _NUMPY, "__builtins__": {}}
    # Every node of it has been checked: it can reach nothing but its arguments and the listed functions.
    exec(compile(ast.Module([plain], []), "<on demand>", "exec"), scope)
    function: Callable[..., Mapping[str, Any]] = scope["on_demand"]
    return function


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    if _holds_text(then) or _holds_text(otherwise):
        then, otherwise = np.asarray(then, object), np.asarray(otherwise, object)
    return np.where(condition, then, otherwise)


def _isin(column: Any, listed: Sequence[Any]) -> Any:
    if _holds_text(column):
        wanted = frozenset(listed)
        return np.fromiter((each in wanted for each in np.atleast_1d(np.asarray(column, object))), bool)
    return np.isin(column, listed)


def _holds_text(value: Any) -> bool:
    return isinstance(value, str) or getattr(value, "dtype", None) == np.object_


_NUMPY = SimpleNamespace(
    **{name: getattr(np, name) for name in FUNCTIONS - {"where", "isin"}},
    **_CONSTANTS,
    where=_where,
    isin=_isin,
)


def _number_vector(column: pa.Array | pa.ChunkedArray) -> Vector:
    """float64, NaN for null, in memory of its own and contiguous."""
    if pa.types.is_timestamp(column.type):
        microseconds = pc.cast(pc.cast(column, pa.timestamp("us", "UTC"), safe=False), pa.int64())
        seconds = pc.divide(pc.cast(microseconds, pa.float64(), safe=False), 1e6)
    elif pa.types.is_boolean(column.type):
        seconds = pc.cast(pc.cast(column, pa.int8()), pa.float64())
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type):
        seconds = pc.cast(column, pa.float64(), safe=False)
    elif pa.types.is_decimal(column.type):
        seconds = pc.cast(column, pa.float64())
    else:
        raise pa.ArrowInvalid(f"no numbers: {column.type}")
    values = seconds.to_numpy() if isinstance(seconds, pa.ChunkedArray) else seconds.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=np.float64)


def _text_vector(column: pa.Array | pa.ChunkedArray) -> Vector:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
        raise pa.ArrowInvalid(f"no text: {column.type}")
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def _as_arrow(result: Any, kind: str, rows: int) -> pa.Array:
    if np.ndim(result) == 0:
        result = np.full(rows, result, dtype=object if kind == TEXT else None)
    if len(result) != rows:
        raise OnDemandError(f"a result has {len(result)} rows instead of {rows}.")
    if np.iscomplexobj(result):
        raise OnDemandError("a result is complex: a negative constant has no fractional power.")
    if kind == TEXT:
        return pa.array(np.asarray(result, object), pa.string(), from_pandas=True)
    if kind == BOOL:
        return pa.array(np.asarray(result, bool), pa.bool_())
    numbers = np.asarray(result, np.float64)
    if kind == WHOLE:
        numbers = np.where(np.abs(numbers) < BEYOND_INT64, numbers, np.nan)
    return pa.array(numbers, pa.float64(), from_pandas=True)

"""The definitions in a team's repository: YAML and Python files, read together; each object knows its file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatehouse.definitions import Definition, DefinitionError, Entity, FeatureService, FeatureView, OnDemand, Source

KINDS = ("entities", "sources", "views", "transforms", "services")
ONE = {"entities": "entity", "sources": "source", "views": "view", "transforms": "transform", "services": "service"}
OWNED = ("sources", "views", "transforms", "services")
SUFFIXES = (".yaml", ".yml", ".py")


@dataclass(frozen=True)
class Repository:
    """``definitions`` as the portal takes them: kind to name to fields. ``origins``: which file said so."""

    definitions: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    origins: dict[tuple[str, str], Path] = field(default_factory=dict)

    def add(self, kind: str, name: str, fields: dict[str, Any], file: Path) -> None:
        """Raises DefinitionError where another file says something else of the same object."""
        known = self.definitions[kind].get(name)
        if known is not None and known != fields:
            raise DefinitionError(f"{file}: {ONE[kind]} {name} is defined in {self.origins[kind, name]} otherwise.")
        self.definitions[kind][name] = fields
        self.origins.setdefault((kind, name), file)

    def locate(self, path: str) -> str:
        """``views.weather.ttl`` as a person finds it: file, object, field."""
        kind, _, rest = path.partition(".")
        name, _, below = rest.partition(".")
        file = self.origins.get((kind, name))
        if file is None:
            return path
        return f"{file}: {ONE[kind]} {name}: {below}" if below else f"{file}: {ONE[kind]} {name}"


def load(path: Path | str) -> Repository:
    """Everything that is defined in a file, or in the YAML and Python files of a folder and those below it.

    Python files are run; hidden ones, tests and those whose name starts with '_' are not read. Raises DefinitionError.
    """
    root = Path(path)
    repository = Repository()
    files = [root] if root.is_file() else list(_files(root))
    if not files:
        raise DefinitionError(f"{root}: there is no YAML or Python file.")
    with _importable(root if root.is_dir() else root.parent):
        for file in files:
            read = _read_python if file.suffix == ".py" else _read_yaml
            for kind, name, fields in read(file):
                repository.add(kind, name, fields, file)
    if not repository.origins:
        raise DefinitionError(f"{root}: nothing is defined there.")
    return repository


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        left_out = file.suffix == ".py" and file.name.startswith(("_", "test_", "conftest"))
        if file.is_file() and file.suffix in SUFFIXES and not hidden and not left_out:
            yield file


# ---------------------------------------------------------------------- YAML


def _read_yaml(file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    told = _parsed_yaml(file)
    if told is None:
        return
    if not isinstance(told, Mapping):
        raise DefinitionError(f"{file}: a mapping is needed, with some of owner, {', '.join(KINDS)}.")
    unknown = [str(name) for name in told if name not in (*KINDS, "owner")]
    if unknown:
        raise DefinitionError(f"{file}: {', '.join(unknown)}: there are owner, {', '.join(KINDS)}.")
    owner = told.get("owner", "")
    for kind in KINDS:
        objects = told.get(kind) or {}
        if not isinstance(objects, Mapping):
            raise DefinitionError(f"{file}: {kind}: a mapping from name to fields is needed.")
        for name, fields in objects.items():
            if not isinstance(fields, Mapping):
                raise DefinitionError(f"{file}: {ONE[kind]} {name}: a mapping of fields is needed.")
            yield kind, str(name), _owned(kind, dict(fields), owner)


def _parsed_yaml(file: Path) -> Any:
    try:
        import yaml
    except ImportError as missing:
        raise DefinitionError(f"{file}: YAML files need PyYAML: pip install 'gatehouse-sdk[features]'.") from missing

    class Strict(yaml.SafeLoader):
        """A key that is there twice is a mistake, and a date is a text as everything else."""

    def mapping(loader: Any, node: Any, deep: bool = False) -> Any:
        plain = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [loader.construct_object(key, deep=True) for key in plain]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise DefinitionError(f"{file}: line {node.start_mark.line + 1}: named twice: {', '.join(twice)}.")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    def as_text(loader: Any, node: Any) -> Any:
        return loader.construct_scalar(node)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    Strict.add_constructor("tag:yaml.org,2002:timestamp", as_text)
    try:
        return yaml.load(file.read_text(), Strict)  # a SafeLoader
    except yaml.YAMLError as problem:
        raise DefinitionError(f"{file}: this is not YAML: {problem}") from problem


# ---------------------------------------------------------------------- Python


def _read_python(file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    spec = importlib.util.spec_from_file_location(f"gatehouse_definitions.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{file}: this can not be run.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except DefinitionError as problem:
        raise DefinitionError(f"{file}: {problem}") from problem
    except (ImportError, SyntaxError, NameError, TypeError, ValueError, AttributeError) as problem:
        raise DefinitionError(f"{file}: {type(problem).__name__}: {problem}") from problem
    owner = getattr(module, "owner", "")
    for value in vars(module).values():
        if isinstance(value, Entity | Source | FeatureView | OnDemand | FeatureService):
            yield value.kind, value.name, _owned(value.kind, _json_of(value, file), owner)


def _json_of(value: Definition, file: Path) -> dict[str, Any]:
    try:
        return value.as_json()
    except DefinitionError as problem:
        raise DefinitionError(f"{file}: {ONE[value.kind]} {value.name}: {problem}") from problem


def _owned(kind: str, fields: dict[str, Any], owner: Any) -> dict[str, Any]:
    return {"owner": owner, **fields} if kind in OWNED and owner and not fields.get("owner") else fields


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Files of one folder may import each other, as in a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

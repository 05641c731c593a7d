"""The GraphQL schema that the installed Dagger SDK was generated from, rebuilt from its `gen.py`.

The SDK ships none. Its client is generated from an engine's introspection, one method a field, so
that names, arguments, types and defaults of the schema can be read back from it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

_SCALARS = {"str": "String", "int": "Int", "float": "Float", "bool": "Boolean", "None": "Void"}
_UPPER = re.compile(r"(?<!^)([A-Z]+)")


def rebuilt() -> str:
    """Return the schema in GraphQL's own language."""
    found = importlib.util.find_spec("dagger.client.gen")
    assert found is not None
    assert found.origin is not None
    return _Generated(ast.parse(Path(found.origin).read_text())).schema()


@dataclass(frozen=True)
class _Type:
    name: str
    nullable: bool = False


class _Generated:
    """The classes of a generated client."""

    def __init__(self, tree: ast.Module) -> None:
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.bases = {
            name: [ast.unparse(base) for base in node.bases] for name, node in self.classes.items()
        }
        self.interfaces = self._with_base("Protocol")
        self.enums = {n for n, b in self.bases.items() if any("Enum" in base for base in b)}
        self.inputs = self._with_base("Input", "base.Input")
        self.scalars = self._with_base("Scalar", "base.Scalar")
        plain = self.classes.keys() - self.enums - self.inputs - self.scalars
        self.objects = plain

    def _with_base(self, *names: str) -> set[str]:
        return {name for name, bases in self.bases.items() if set(bases) & set(names)}

    def schema(self) -> str:
        """Return all of it."""
        fields: dict[str, dict[str, str]] = {}
        for name in sorted(self.objects):
            fields.setdefault(_graphql(name), {}).update(self._fields(name))
        parts = [f"scalar {name}" for name in sorted(self.scalars - {"ID"})]
        parts += [f"enum {name} {{ {self._values(name)} }}" for name in sorted(self.enums)]
        parts += [f"input {name} {{ {self._inputs(name)} }}" for name in sorted(self.inputs)]
        parts += [self._object(name, each) for name, each in sorted(fields.items()) if each]
        return "\n".join(parts)

    def _object(self, name: str, fields: dict[str, str]) -> str:
        is_node = name not in ("Node", "Query") and "id" in fields
        kind = "interface" if name in self.interfaces else "type"
        return f"{kind} {name}{' implements Node' if is_node else ''} {{\n" + (
            "\n".join(fields.values()) + "\n}"
        )

    def _values(self, name: str) -> str:
        values = [
            node.targets[0].id
            for node in self.classes[name].body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        return " ".join(dict.fromkeys(values))

    def _inputs(self, name: str) -> str:
        said = []
        for node in self.classes[name].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                key = re.sub(r"_([a-z])", lambda found: found[1].upper(), node.target.id)
                said.append(f"{key}: {_written(self._type(node.annotation, name))}")
        return " ".join(said)

    def _fields(self, name: str) -> dict[str, str]:
        fields = {}
        for node in self.classes[name].body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                field = _field_name(node)
                if field:
                    fields[field] = self._field(field, node, name)
        return fields

    def _field(self, field: str, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> str:
        annotated = {arg.arg: arg.annotation for arg in (*node.args.args, *node.args.kwonlyargs)}
        arguments = [self._argument(call, annotated, owner) for call in _calls(node)]
        returned = _Type("Void", True) if node.returns is None else self._type(node.returns, owner)
        if field in ("sync", "id"):
            returned = _Type("ID")
        listed = f"({', '.join(arguments)})" if arguments else ""
        return f"  {field}{listed}: {_written(returned)}"

    def _argument(self, call: ast.Call, annotated: dict[str, ast.expr | None], owner: str) -> str:
        assert isinstance(call.args[0], ast.Constant)
        name = str(call.args[0].value)
        snake = _UPPER.sub(lambda found: "_" + found[1].lower(), name)
        words = re.findall(r"\w+", ast.unparse(call.args[1]))
        annotation = next(
            (annotated[key] for key in (snake, f"{snake}_", *words) if annotated.get(key)), None
        )
        default = _literal(call.args[2]) if len(call.args) > 2 else "null"
        if annotation is None:
            return f"{name}: String"
        kind = self._type(annotation, owner)
        if kind.name.strip("[]!") in {"Type", *map(_graphql, self.objects)}:
            # Objects travel as their ids.
            kind = _Type(re.sub(r"\w+", "ID", kind.name, count=1), kind.nullable)
        optional = kind.nullable or len(call.args) > 2
        given = "" if default == "null" else f" = {default}"
        return f"{name}: {_written(_Type(kind.name, optional))}{given}"

    def _type(self, node: ast.expr, owner: str) -> _Type:
        match node:
            case ast.Constant(value=str(text)):
                return self._type(ast.parse(text, mode="eval").body, owner)
            case ast.Constant(value=None):
                return _Type("Void", True)
            case ast.BinOp(left=left):
                return _Type(self._type(left, owner).name, True)
            case ast.Subscript(slice=inner):
                return _Type(f"[{_written(self._type(inner, owner))}]")
        said = ast.unparse(node)
        return _Type(_graphql(owner) if said == "Self" else _SCALARS.get(said, _graphql(said)))


def _graphql(name: str) -> str:
    """Return the name in the schema of a class of the client."""
    if name == "Client":
        return "Query"
    found = re.fullmatch(r"_(\w+)Client", name)
    return found[1] if found else name


def _written(kind: _Type) -> str:
    return kind.name if kind.nullable else f"{kind.name}!"


def _field_name(node: ast.AST) -> str:
    said = ast.unparse(node)
    found = re.search(r"_select\('(\w+)'", said) or re.search(r"execute_sync\(self, '(\w+)'", said)
    if found:
        return found[1]
    return "sync" if "execute_sync" in said else ""


def _calls(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.Call]:
    """Return how the arguments of a field are made."""
    for each in node.body:
        match each:
            case (
                ast.AnnAssign(target=ast.Name("_args"), value=ast.List(elts=listed))
                | ast.Assign(targets=[ast.Name("_args")], value=ast.List(elts=listed))
            ):
                return [call for call in listed if isinstance(call, ast.Call)]
    return []


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    value = ast.literal_eval(node)
    return "[]" if value == () else json.dumps(value)

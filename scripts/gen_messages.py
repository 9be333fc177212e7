"""Write docs/spec/messages.md from the declarations of all messages and refusals; --check only compares."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import protocol
from protocol.encoding.codec import Message, MessageShape, shapes
from protocol.encoding.fields import (
    BoolShape,
    BytesShape,
    EnumShape,
    ListShape,
    OptionalShape,
    Shape,
    TextShape,
    UintShape,
)
from protocol.identity.eip712 import encode_type, type_hash
from protocol.policy.policy import ReasonCode
from protocol.refusals import WAYS, RefusalCode, Way

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "spec" / "messages.md"
HEAD = """<!-- Written by scripts/gen_messages.py. -->

# Messages

Normative. Every message, as its declaration says it: a type on the wire is that of [W1 and W2](wire.md#w2-types),
typed data in [W8](wire.md#w8-typed-data). Fields stand in the order of the wire. A message with a kind travels by
itself, one without stands inside another. The bounds of bytes and text are their lengths in bytes.
"""
T = TypeVar("T")


def modules() -> list[ModuleType]:
    """Those of `protocol`, each after those that it imports, and those of `node` that declare messages."""
    names = [each.name for each in pkgutil.walk_packages(protocol.__path__, "protocol.") if not each.ispkg]
    wanted = {name: sorted(_imported(ROOT / (name.replace(".", "/") + ".py")) & set(names)) for name in sorted(names)}
    local = [path for path in sorted((ROOT / "node").rglob("*.py")) if "\n@message(" in path.read_text()]
    ordered = [*TopologicalSorter(wanted).static_order()]
    ordered += [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in local]
    return [importlib.import_module(name) for name in ordered]


def _imported(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}


@dataclass(frozen=True)
class Found:
    """What is to be described: whatever has a kind, is typed data, or stands inside of these."""

    messages: frozenset[type[Message]]
    enums: frozenset[type[StrEnum]]

    @classmethod
    def among(cls, modules: Iterable[ModuleType]) -> Found:
        declared = {each for module in modules for each in _declared(module, Message, dataclasses.is_dataclass)}
        waiting = [each for each in declared if each.kind or each.typed]
        messages: set[type[Message]] = set()
        enums: set[type[StrEnum]] = set()
        while waiting:
            each = waiting.pop()
            messages.add(each)
            for _, shape in shapes(each):
                inner = _innermost(shape)
                if isinstance(inner, EnumShape):
                    enums.add(inner.enum)
                elif isinstance(inner, MessageShape) and inner.cls not in messages:
                    waiting.append(inner.cls)
        return cls(frozenset(messages), frozenset(enums))


def _innermost(shape: Shape) -> Shape:
    while isinstance(shape, ListShape | OptionalShape):
        shape = shape.inner
    return shape


def _declared(module: ModuleType, base: type[T], wanted: Callable[[type[T]], bool]) -> list[type[T]]:
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, base)]
    order = [node.name for node in _tree(module).body if isinstance(node, ast.ClassDef)]
    own = {each.__name__: each for each in found if each.__module__ == module.__name__ and wanted(each)}
    return [own[name] for name in order if name in own]


@functools.cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def notes(body: list[ast.stmt]) -> dict[str, str]:
    """What stands as a docstring under each assignment."""
    found = {}
    for each, following in itertools.pairwise(body):
        match each, following:
            case (
                (ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)])),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
    return found


def _body(cls: type) -> list[ast.stmt]:
    tree = _tree(sys.modules[cls.__module__])
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return found.body


def described(shape: Shape) -> tuple[str, str]:
    """Type and bounds of a field, for people."""
    match shape:
        case UintShape():
            most = shape.uint.most
            bounds = f"below 2^{min(shape.uint.bits, 63)}" if most is None else f"at most {most:,}"
            return f"uint{shape.uint.bits}", bounds
        case BytesShape():
            high = shape.size.low if shape.size.high is None else shape.size.high
            return "bytes", str(high) if high == shape.size.low else f"{shape.size.low} to {high}"
        case TextShape():
            return "text", f"at most {shape.size.high}"
        case BoolShape():
            return "bool", ""
        case EnumShape():
            return _link(shape.enum), ""
        case MessageShape():
            return _link(shape.cls), ""
        case OptionalShape():
            inner, bounds = described(shape.inner)
            return f"{inner}, or nil", bounds
        case ListShape():
            inner, bounds = described(shape.inner)
            items = f"{shape.count.low} to {shape.count.high} items"
            return f"list of {inner}", f"{items}, each {bounds}" if bounds else items
    raise TypeError(f"no words for {shape}")


def _link(cls: type) -> str:
    return f"[{cls.__name__}](#{_anchor(cls)})"


def _anchor(cls: type) -> str:
    """The name that a Markdown reader gives to the class's heading."""
    kind = getattr(cls, "kind", "")
    return f"{cls.__name__.lower()}-{kind.replace('/', '')}" if kind else cls.__name__.lower()


def _prose(text: str) -> str:
    """A docstring as Markdown: RST's doubled ticks made single, its paragraphs kept."""
    return inspect.cleandoc(text).replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(_prose(text).split()).replace("|", "\\|")


def _first_paragraph(text: str) -> str:
    return _prose(text).partition("\n\n")[0]


def message_section(cls: type[Message]) -> list[str]:
    """One message: what it is, its fields, its type as typed data."""
    title = f"{cls.__name__} `{cls.kind}`" if cls.kind else cls.__name__
    lines = [f"### {title}", "", _prose(cls.__doc__ or ""), ""]
    about = notes(_body(cls))
    if shapes(cls):
        lines += ["| field | type | bounds | |", "|---|---|---|---|"]
    for name, shape in shapes(cls):
        kind, bounds = described(shape)
        lines.append(f"| `{name}` | {kind} | {bounds} | {_cell(about.get(name, ''))} |")
    if cls.typed:
        lines += ["", "Typed data:", "", "```text", encode_type(cls), f"typeHash 0x{type_hash(cls).hex()}", "```"]
    return [*lines, ""]


def enum_section(cls: type[StrEnum]) -> list[str]:
    """One enumeration: its values on the wire, and what they mean."""
    about = notes(_body(cls))
    lines = [f"### {cls.__name__}", "", _prose(cls.__doc__ or ""), ""]
    lines += ["| value | |", "|---|---|", *(f"| `{each}` | {_cell(about.get(each.name, ''))} |" for each in cls)]
    return [*lines, ""]


def module_section(module: ModuleType, found: Found) -> list[str]:
    """Messages and enumerations of one module; nothing where it declares none that travels or is stored."""
    declared = _declared(module, Message, lambda cls: cls in found.messages)
    enums = _declared(module, StrEnum, lambda cls: cls in found.enums)
    if not declared and not enums:
        return []
    path = module.__name__.replace(".", "/") + ".py"
    lines = [f"## `{path}`", "", _first_paragraph(module.__doc__ or ""), ""]
    for cls in declared:
        lines += message_section(cls)
    for enum in enums:
        lines += enum_section(enum)
    return lines


def bounds_section(found: Iterable[ModuleType]) -> list[str]:
    """The public constants that are whole numbers."""
    lines = ["## Bounds", "", "| constant | | |", "|---|---|---|"]
    for module in found:
        about = notes(_tree(module).body)
        for node in _tree(module).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper() and not name.startswith("_"):
                    value = getattr(module, name)
                    if type(value) is int:
                        place = module.__name__.rpartition(".")[2]
                        lines.append(f"| `{place}.{name}` | {value:,} | {_cell(about.get(name, ''))} |")
    return [*lines, ""]


def refusals_section() -> list[str]:
    """Every code that can reach another party."""
    about, ways = notes(_body(RefusalCode)), notes(_body(Way))
    lines = ["## Refusals", "", "A code travels", ""]
    lines += [f"- **{way}**: {_cell(ways[way.name])[0].lower()}{_cell(ways[way.name])[1:]}" for way in Way]
    lines += ["", "| code | means | " + " | ".join(Way) + " |", "|---|---" + "|---" * len(Way) + "|"]
    for code in RefusalCode:
        marks = " | ".join("x" if way in WAYS[code] else "" for way in Way)
        lines.append(f"| `{code}` | {_cell(about.get(code.name, ''))} | {marks} |")
    codes = ", ".join(f"`{code}`" for code in ReasonCode)
    lines += ["", f"A node that an order's own policy excludes says so in a sealed refusal with one of {codes}.", ""]
    return lines


def page() -> str:
    """The whole page."""
    every = modules()
    shared = [each for each in every if each.__name__.startswith("protocol.")]
    found, lines = Found.among(every), [HEAD]
    for module in shared:
        lines += module_section(module, found)
    lines += [*refusals_section(), *bounds_section(shared)]
    lines += ["# Stored on disk", "", "These never travel. A program of another maker needs none of them.", ""]
    for module in every[len(shared) :]:
        lines += module_section(module, found)
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> int:
    text = page()
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print(f"out of date: {PAGE.name}; run scripts/gen_messages.py")
        return 1
    PAGE.write_text(text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Small faults planted in either twin, each of which the test of twins has to find.

A mutant is an edit of the source. The contract's is compiled and deployed; that of a Python rule gives its functions
other code for a while. Where the text to replace has changed, the mutant has to follow it.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from anvil_chain import CONTRACTS, compile_source

from protocol.chain.abi import Abi


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit."""

    name: str
    old: str
    new: str
    module: str = ""
    """The Python module that it is in; none: the contract."""

    def apply(self, source: str) -> str:
        assert source.count(self.old) == 1, f"{self.name}: stands {source.count(self.old)} times in the source"
        return source.replace(self.old, self.new)


def _mutants(twin: str) -> tuple[Mutant, ...]:
    listed = json.loads(Path(__file__).with_suffix(".json").read_text())[twin]
    return tuple(Mutant(**each) for each in listed)


CONTRACT = _mutants("contract")
PYTHON = _mutants("python")


def mutated_contract(mutant: Mutant, folder: Path) -> tuple[Abi, bytes]:
    """The contract with one edit, compiled."""
    source = folder / "Settlement.sol"
    source.write_text(mutant.apply((CONTRACTS / "Settlement.sol").read_text()))
    return compile_source(source)["Settlement"]


@contextmanager
def mutated_rules(mutant: Mutant) -> Iterator[None]:
    """One edit of a Python module, in the code of its functions, wherever they were imported to."""
    module = importlib.import_module(mutant.module)
    source = mutant.apply(inspect.getsource(module))
    before = dict(_functions(module))
    changed = {
        name: code
        for name, code in _codes(compile(source, "<mutant>", "exec"))
        if name in before and _content(code) != _content(before[name].__code__)
    }
    kept = {name: before[name].__code__ for name in changed}
    assert changed
    try:
        for name, code in changed.items():
            before[name].__code__ = code
        yield
    finally:
        for name, code in kept.items():
            before[name].__code__ = code


def _content(code: CodeType) -> tuple[object, ...]:
    consts = tuple(_content(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.co_code, consts, code.co_names


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    for holder in [module, *(each for each in vars(module).values() if inspect.isclass(each))]:
        for each in vars(holder).values():
            if isinstance(each, FunctionType) and each.__module__ == module.__name__:
                yield each.__qualname__, each


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each.co_qualname, each
            yield from _codes(each)

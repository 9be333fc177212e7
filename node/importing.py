"""Imports of what is large, without the garbage collector, and without what is imported for nothing.

What a model's libraries consist of, half a million objects, lives as long as the process. The collector goes through it
again and again while it is imported, and later now and then, when everything else waits for a third of a second. And
libraries import others for what nobody here calls: these are loaded when somebody does.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType

__all__ = ["UNUSED", "UNUSED_BY_ENGINES", "importing", "put_off"]

UNUSED = ("httpx", "requests")
"""What libp2p fetches certificates with that are not used here: some 10 MB."""
UNUSED_BY_ENGINES = (
    "torch._meta_registrations",
    "torch.distributions",
    "torch.export",
    "torch.quantization",
    "torch.utils.data",
)
"""What torch brings for training, export and tensors without numbers, none of which an engine has: 25 MB.

The first of them is looked into by nobody: it says what operators do with tensors without numbers. So these are put off
where nothing but an engine uses torch.
"""


@contextmanager
def importing() -> Iterator[None]:
    """While the block runs nothing is collected, and what there is at its end never will be."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def put_off(*names: str) -> None:
    """From now on, whoever imports one of these modules as a whole has it when it first looks into it.

    Nothing changes for those that are imported already, or not installed.
    """
    for name in names:
        spec = None if "." in name else PathFinder.find_spec(name)  # a part of a package is found through it
        if name not in sys.modules and (spec is not None or "." in name):
            sys.modules[name] = _Later(name)
            sys.modules[name].__spec__ = spec


class _Later(ModuleType):
    """Stands for a module that nobody has looked into yet."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # whoever goes through all modules looks for no more
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)

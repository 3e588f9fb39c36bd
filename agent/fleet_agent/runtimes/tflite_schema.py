"""The Python classes of the TFLite schema under the name that TVM's importer expects: ``tflite``.

TVM imports ``tflite.Operator.Operator`` and the like from a package of that name (on PyPI, made from an
older schema). LiteRT ships the classes of its own schema in one module. Where ``tflite`` is not
installed, modules of its names are made of that one.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGE = "tflite"


def install_schema() -> None:
    """Make ``import tflite`` work in this process; raise `ImportError` when there is no schema at all."""
    if PACKAGE in sys.modules or find_spec(PACKAGE) is not None:
        return
    from ai_edge_litert import schema_py_generated

    sys.meta_path.append(_SchemaFinder(schema_py_generated))


class _SchemaFinder(MetaPathFinder, Loader):
    def __init__(self, schema: ModuleType) -> None:
        self._schema = schema

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the finder's interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE or (name and not hasattr(self._schema, name)):
            return None
        return ModuleSpec(fullname, self, is_package=not name)

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002 - the default will do
        return None

    def exec_module(self, module: ModuleType) -> None:
        _, _, name = module.__name__.partition(".")
        found: dict[str, Any] = vars(self._schema)
        if name:
            setattr(module, name, found[name])
        else:
            vars(module).update({key: value for key, value in found.items() if isinstance(value, type)})

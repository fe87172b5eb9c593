"""The house keeps its order: one-way imports, a pure core, one module that touches the disk."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiocheckpoint
from aiocheckpoint import testing

_ROOT = Path(aiocheckpoint.__file__).parent
_PURE = frozenset(
    {
        "arguments",
        "codec",
        "errors",
        "floats",
        "index",
        "json_values",
        "layout",
        "models",
        "retention",
    }
)
_PURE_IMPORTS = frozenset(
    {
        "__future__",
        "aiocheckpoint",
        "bisect",
        "collections",
        "datetime",
        "enum",
        "errno",
        "functools",
        "hashlib",
        "itertools",
        "math",
        "msgspec",
        "os",
        "pathlib",
        "random",
        "re",
        "secrets",
        "types",
        "typing",
        "urllib",
    }
)
_SYSTEM_MODULES = frozenset(
    {"fcntl", "io", "mmap", "os", "shutil", "socket", "subprocess", "tempfile"}
)
# What may be asked of `os` without asking the system anything.
_HARMLESS_IN_OS = frozenset({"PathLike", "fspath"})
# The demo runs its agents in a process of their own, in a directory of its own.
_FOR_COMMANDS = frozenset({"shutil", "subprocess", "tempfile"})
_CORE_DEPENDENCIES = frozenset({"aiofiles", "anyio", "msgspec"})
_OUTSIDE_THE_CORE = frozenset({"adapters", "cli", "testing"})

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module:
    """One source file, parsed."""

    def __init__(self, path: Path) -> None:
        self.name = ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        self.part = self.name.split(".")[0]
        self.tree = ast.parse(path.read_text())

    def imports(self) -> Iterator[tuple[str, str | None]]:
        """Yield each import as its module and, for `from` imports, the name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                yield from ((node.module or "", alias.name) for alias in node.names)

    def parts_imported(self) -> set[str]:
        """Return the parts of this package that it imports, `__init__` for the top."""
        parts = set()
        for module, name in self.imports():
            if module == "aiocheckpoint":
                parts.add(name if name in _PARTS else "__init__")
            elif module.startswith("aiocheckpoint."):
                parts.add(module.split(".")[1])
        return parts - {self.part}


_PARTS = {path.stem for path in _ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
_PARTS -= {"__pycache__", "__init__"}
_MODULES = [Module(path) for path in sorted(_ROOT.rglob("*.py"))]


def _each(modules: list[Module]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", modules, ids=[module.name for module in modules])


_each_module = _each(_MODULES)
_each_core_module = _each([m for m in _MODULES if m.part not in _OUTSIDE_THE_CORE])
_each_pure_module = _each([m for m in _MODULES if m.name in _PURE])
_each_module_but_files = _each([m for m in _MODULES if m.name != "files"])


def _stated_order() -> list[str]:
    """Return the parts of the package in the order that its docstring states."""
    stated = re.search(r"one way: ([^.]+)\.", aiocheckpoint.__doc__ or "")
    assert stated is not None
    return re.findall(r"\w+", stated[1])


class TestImports:
    def test_go_one_way(self) -> None:
        """A module imports only what stands before it in the order the package states."""
        order = _stated_order()
        wrong = {
            f"{module.name} imports {part}"
            for module in _MODULES
            if module.part in order
            for part in module.parts_imported() & set(order)
            if order.index(part) > order.index(module.part)
        }

        assert wrong == set()

    @_each_core_module
    def test_core_does_not_import_the_top(self, module: Module) -> None:
        """Only what is built upon the package as users see it imports from its top."""
        assert "__init__" not in module.parts_imported()

    def test_order_names_every_part(self) -> None:
        """No module stands outside the stated order."""
        assert set(_stated_order()) >= _PARTS - {"__main__"}

    def test_have_no_cycle(self) -> None:
        """No module needs itself, by whatever way."""
        needed: dict[str, set[str]] = {}
        for module in _MODULES:
            needed.setdefault(module.part, set()).update(module.parts_imported())
        while leaves := {part for part, others in needed.items() if not others & needed.keys()}:
            for part in leaves:
                del needed[part]

        assert needed == {}

    @_each_core_module
    def test_core_needs_three_packages(self, module: Module) -> None:
        """The core imports nothing that is not declared as its dependency."""
        roots = {name.split(".")[0] for name, _ in module.imports()}

        assert roots - sys.stdlib_module_names <= _CORE_DEPENDENCIES | {"aiocheckpoint"}


class TestPurity:
    @_each_pure_module
    def test_pure_modules_decide_only(self, module: Module) -> None:
        """They import no clock, no thread, no loop and no disk; the index may have locks."""
        allowed = _PURE_IMPORTS | ({"threading"} if module.name == "index" else set())

        assert {name.split(".")[0] for name, _ in module.imports()} <= allowed
        called = {
            node.func.id
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert called.isdisjoint(
            {"open", "print", "input", "eval", "exec", "compile", "__import__"}
        )

    def test_every_pure_module_is_there(self) -> None:
        """The list of pure modules names files that exist."""
        assert {module.name for module in _MODULES} >= _PURE

    @_each_module_but_files
    def test_one_module_touches_the_system(self, module: Module) -> None:
        """Only `files` imports what reads or changes the disk."""
        for name, member in module.imports():
            root = name.split(".")[0]
            is_harmless = root == "os" and (member in _HARMLESS_IN_OS or member is None)
            is_for_commands = module.part == "cli" and root in _FOR_COMMANDS
            assert root not in _SYSTEM_MODULES or is_harmless or is_for_commands, name

    @_each_module_but_files
    def test_os_is_asked_for_types_alone(self, module: Module) -> None:
        """Where `os` is imported for a type, nothing else of it is used."""
        used = {
            node.attr
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }

        assert used <= _HARMLESS_IN_OS


class TestNames:
    @_each_module
    def test_every_module_has_a_subject(self, module: Module) -> None:
        """No module is a place for whatever has none."""
        assert module.name.split(".")[-1] not in {"utils", "util", "helpers", "common", "misc"}

    def test_all_is_what_is_exported(self) -> None:
        """`__all__` lists, in order and once, the names that the package brings in."""
        imported = {name for _, name in _MODULES_BY_NAME["__init__"].imports()}

        assert set(aiocheckpoint.__all__) == imported
        assert list(aiocheckpoint.__all__) == sorted(set(aiocheckpoint.__all__))
        assert all(hasattr(aiocheckpoint, name) for name in aiocheckpoint.__all__)

    def test_all_of_testing_is_what_it_defines(self) -> None:
        """So does that of the public testing module for what it defines."""
        public = {
            node.name
            for node in _MODULES_BY_NAME["testing"].tree.body
            if isinstance(node, _Definition) and not node.name.startswith("_")
        }

        assert public <= set(testing.__all__)
        assert all(hasattr(testing, name) for name in testing.__all__)


_MODULES_BY_NAME = {module.name: module for module in _MODULES}


def _undocumented(scope: ast.AST, prefix: str) -> Iterator[str]:
    """Yield the public definitions of a module or class that have no docstring."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, _Definition) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and not _is_overload(node):
                yield f"{prefix}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(node, f"{prefix}.{node.name}")


def _is_overload(node: _Definition) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


class TestDocstrings:
    @_each_module
    def test_everything_public_has_one(self, module: Module) -> None:
        """Every module, public class, function and method says what it is for."""
        assert ast.get_docstring(module.tree)
        assert list(_undocumented(module.tree, module.name)) == []

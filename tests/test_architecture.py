"""The house keeps its order: one-way imports, a pure core, one folder that touches the system."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import aiocheckpoint
from aiocheckpoint import testing

_ROOT = Path(aiocheckpoint.__file__).parent
_PUBLIC_MODULES = frozenset({"history", "kit", "portal"})  # which the top does not bring in
_PURE_PARTS = frozenset({"_frameworks", "errors", "models", "_format", "exact"})
# No os, time or threading: whoever decides only needs none of them. `zoneinfo` reads the zones of
# the system, which a time does not carry with it.
_PURE_IMPORTS = frozenset(
    {
        "__future__",
        "aiocheckpoint",
        "base64",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "errno",
        "functools",
        "hashlib",
        "itertools",
        "math",
        "msgspec",
        "operator",
        "pathlib",
        "random",
        "re",
        "secrets",
        "struct",
        "types",
        "typing",
        "urllib",
        "uuid",
        "zlib",
        "zoneinfo",
    }
)
_SYSTEM_MODULES = frozenset(
    {
        "ctypes", "fcntl", "io", "mmap", "msvcrt", "os", "resource", "shutil", "socket", "stat",
        "subprocess", "tempfile", "time",
    }
)  # fmt: skip
# What may be asked of `os` without touching anything.
_HARMLESS_IN_OS = frozenset({"PathLike", "devnull", "fspath", "getpid"})
# The demo runs its agents in a process of their own, which it kills, in a directory of its own.
_FOR_COMMANDS = frozenset({"shutil", "subprocess", "tempfile", "time"})
# A framework's database is read from a copy, since the framework changes it as it reads.
_FOR_SOURCES = frozenset({"tempfile"})
_IN_OS_FOR_COMMANDS = frozenset({"kill"})
_CORE_DEPENDENCIES = frozenset({"aiofiles", "anyio", "msgspec"})
_DRIVERS = {  # each an extra of its own
    "stores.postgres": frozenset({"asyncpg", "backports", "compression"}),
    "stores.s3": frozenset({"aiobotocore", "aiohttp", "botocore"}),
}
_BUILT_ON_TOP = frozenset({"adapters", "cli", "testing"})
_MAX_LINES = 350
_LARGE_MODULES = frozenset({"_disk.files", "writer"})

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module:
    """One source file, parsed."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(_ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        self.part = parts[0]
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.nodes = list(ast.walk(self.tree))

    def imports(self) -> Iterator[tuple[str, str | None]]:
        """Yield each import as its module and, for `from` imports, the name."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                yield from ((node.module or "", alias.name) for alias in node.names)

    def modules_imported(self) -> set[str]:
        """Return the modules of this package that it imports, `__init__` for the top."""
        found = set()
        for module, name in self.imports():
            if module.split(".")[0] == "aiocheckpoint":
                inner = module.removeprefix("aiocheckpoint").removeprefix(".")
                longer = f"{inner}.{name}".removeprefix(".")
                found.add(longer if longer in _NAMES else inner or "__init__")
        return found

    def parts_imported(self) -> set[str]:
        """Return the parts of this package that it imports, `__init__` for the top."""
        return {name.split(".")[0] for name in self.modules_imported()} - {self.part}

    def count_lines(self) -> int:
        """Return how many lines of code it has: no blank ones, comments or docstrings."""
        lines: set[int] = set()
        layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
        layout |= {tokenize.DEDENT, tokenize.ENDMARKER}
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in layout:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in self.nodes:
            if isinstance(node, ast.Module | _Definition) and ast.get_docstring(node) is not None:
                lines.difference_update(range(node.body[0].lineno, _end_of(node.body[0]) + 1))
        return len(lines)


def _end_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


_PATHS = sorted(_ROOT.rglob("*.py"))
_PARTS = {path.relative_to(_ROOT).with_suffix("").parts[0] for path in _PATHS}
_NAMES = {".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in _PATHS}
_NAMES = {name.removesuffix(".__init__") for name in _NAMES}


@cache
def _modules() -> list[Module]:
    """Parse them when a test runs, and not whenever tests are collected."""
    return [Module(path) for path in _PATHS]


def _module(name: str) -> Module:
    (found,) = (module for module in _modules() if module.name == name)
    return found


_Rule = Callable[[Any, Module], None]


def _each(
    belongs: Callable[[Module], bool] = lambda _: True,
) -> Callable[[_Rule], Callable[[Any], None]]:
    """Make one test of a rule for modules; a failure tells which of them breaks it."""

    def decorated(rule: _Rule) -> Callable[[Any], None]:
        def test(self: Any) -> None:
            modules = list(filter(belongs, _modules()))
            assert modules
            for module in modules:
                try:
                    rule(self, module)
                except AssertionError as error:
                    error.add_note(f"in {module.name}")
                    raise

        test.__doc__ = rule.__doc__
        return test

    return decorated


_each_module = _each()
_each_core_module = _each(
    lambda module: module.part not in _BUILT_ON_TOP | {"__init__", "__main__"}
)
_each_pure_module = _each(lambda module: module.part in _PURE_PARTS)
_each_module_but_those_of_the_disk = _each(lambda module: module.part != "_disk")
_each_module_for_users = _each(lambda module: module.part in {"adapters", "cli", "__main__"})
_each_store_module = _each(lambda module: module.part == "stores")
_each_testing_module = _each(lambda module: module.part == "testing")


def _stated_floors() -> list[list[str]]:
    """Return the parts of the package, floor by floor, that its docstring states."""
    stated = re.search(r"one way: ([^.]+)\.", aiocheckpoint.__doc__ or "")
    assert stated is not None
    plain = re.sub(r"\([^)]*\)", "", stated[1])
    return [re.findall(r"\w+", floor) for floor in plain.split("<-")]


_FLOORS = {part: floor for floor, parts in enumerate(_stated_floors()) for part in parts}


class TestImports:
    def test_go_one_way(self) -> None:
        """A module imports only from its own floor of the house and those below."""
        wrong = {
            f"{module.name} imports {part}"
            for module in _modules()
            for part in module.parts_imported() & _FLOORS.keys()
            if _FLOORS[part] > _FLOORS.get(module.part, len(_FLOORS))
        }

        assert wrong == set()

    @_each_core_module
    def test_core_does_not_import_the_top(self, module: Module) -> None:
        """Only what is built upon the package as users see it imports from its top."""
        assert "__init__" not in module.parts_imported()

    def test_house_has_a_place_for_every_part(self) -> None:
        """No module stands outside the stated order, and the order names nothing that is gone."""
        assert _FLOORS.keys() == _PARTS - {"__init__", "__main__"}

    def test_have_no_cycle(self) -> None:
        """No module needs itself, by whatever way."""
        needed = {module.name: module.modules_imported() for module in _modules()}
        while leaves := {name for name, others in needed.items() if not others & needed.keys()}:
            for name in leaves:
                del needed[name]

        assert needed == {}

    @_each_core_module
    def test_core_needs_three_packages(self, module: Module) -> None:
        """The core imports nothing that is not declared as its dependency."""
        roots = {name.split(".")[0] for name, _ in module.imports()}
        store = ".".join(module.name.split(".")[:2])
        allowed = _CORE_DEPENDENCIES | _DRIVERS.get(store, frozenset()) | {"aiocheckpoint"}

        assert roots - sys.stdlib_module_names <= allowed

    @_each_store_module
    def test_stores_use_what_anybody_could(self, module: Module) -> None:
        """A store is written with public modules alone, so that anybody could have made it."""
        assert module.parts_imported() <= {"errors", "models", "store", "kit", "writer"}
        assert "writer" not in module.parts_imported() or module.name == "stores"

    @_each_module_for_users
    def test_adapters_and_commands_use_what_users_use(self, module: Module) -> None:
        """They import public names and their own package, so that anybody could have made them."""
        own = "cli" if module.part == "__main__" else module.part

        for name, member in module.imports():
            if name == "aiocheckpoint":
                assert member in (*aiocheckpoint.__all__, "__version__")
            elif name.split(".")[0] == "aiocheckpoint":
                assert name.split(".")[1] in {own, *_PUBLIC_MODULES}, name

    @_each_testing_module
    def test_testing_knows_formats_and_the_faulty_disk_alone(self, module: Module) -> None:
        """What tests stores knows no engine; only the disk that fails knows the disk."""
        allowed = {"errors", "models", "_format", "_arguments", "store", "kit"}
        if module.name == "testing.faults":
            allowed.add("_disk")

        assert module.parts_imported() <= allowed


class TestPurity:
    @_each_pure_module
    def test_pure_modules_decide_only(self, module: Module) -> None:
        """They import no clock, no thread, no loop and no disk."""
        assert {name.split(".")[0] for name, _ in module.imports()} <= _PURE_IMPORTS
        called = {
            node.func.id
            for node in module.nodes
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert called.isdisjoint(
            {"open", "print", "input", "eval", "exec", "compile", "__import__"}
        )

    @_each_module_but_those_of_the_disk
    def test_one_folder_touches_the_system(self, module: Module) -> None:
        """Only `_disk` imports what reads a clock, or reads or changes the disk."""
        for name, member in module.imports():
            root = name.split(".")[0]
            is_harmless = root == "os" and (member in _HARMLESS_IN_OS or member is None)
            is_for_commands = module.part == "cli" and root in _FOR_COMMANDS
            is_for_sources = module.name == "adapters._sources" and root in _FOR_SOURCES
            allowed = is_harmless or is_for_commands or is_for_sources
            assert root not in _SYSTEM_MODULES or allowed, name

    @_each_module_but_those_of_the_disk
    def test_os_is_asked_for_constants_alone(self, module: Module) -> None:
        """Where `os` is imported, nothing of it is used that asks the system."""
        used = {
            node.attr
            for node in module.nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }

        allowed = _IN_OS_FOR_COMMANDS if module.part == "cli" else frozenset()
        assert used <= _HARMLESS_IN_OS | allowed


class TestSize:
    @_each_core_module
    def test_modules_are_short(self, module: Module) -> None:
        """A module can be read in one sitting; those that are lists of operations are longer."""
        assert module.name in _LARGE_MODULES or module.count_lines() <= _MAX_LINES


class TestNames:
    @_each_module
    def test_every_module_has_a_subject(self, module: Module) -> None:
        """No module is a place for whatever has none."""
        assert module.name.split(".")[-1] not in {"utils", "util", "helpers", "common", "misc"}

    def test_all_is_what_is_exported(self) -> None:
        """`__all__` lists, in order and once, the names that the package brings in."""
        imported = {name for _, name in _module("__init__").imports()}

        assert set(aiocheckpoint.__all__) == imported
        assert list(aiocheckpoint.__all__) == sorted(set(aiocheckpoint.__all__))
        assert all(hasattr(aiocheckpoint, name) for name in aiocheckpoint.__all__)

    def test_all_of_testing_is_what_it_defines(self) -> None:
        """So does that of the public testing module for what it defines."""
        public = {
            node.name
            for node in _module("testing").tree.body
            if isinstance(node, _Definition) and not node.name.startswith("_")
        }

        assert public <= set(testing.__all__)
        assert all(hasattr(testing, name) for name in testing.__all__)


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

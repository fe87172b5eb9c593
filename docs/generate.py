"""Write `docs/reference/api.md` and `errors.md` from the docstrings: `python -m docs.generate`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from aiocheckpoint import (
    errors,
    exact,
    history,
    kit,
    models,
    portal,
    store,
    stores,
    testing,
    writer,
)
from aiocheckpoint._format import blobs
from aiocheckpoint.adapters import opentelemetry
from aiocheckpoint.adapters.langgraph import migration, records, saver
from aiocheckpoint.stores import copying
from aiocheckpoint.stores.postgres import schema as postgres_schema
from aiocheckpoint.stores.postgres import store as postgres_store
from aiocheckpoint.stores.s3 import store as s3_store

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `python -m docs.generate` from the docstrings: change those. -->\n"
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Durability|Cost): *(.*)")
_ITEM = re.compile(r"(\w+): +(.*)", re.DOTALL)
_REMARK = re.compile(r"  # noqa.*$", re.MULTILINE)
_CONSTANT = re.compile(r"= ([A-Z_]+)\b")
_API_HEAD = """# API

Everything here is imported from `aiocheckpoint`, but where a heading names another module. What
is called with `await` says `async def`; `sessions` is an asynchronous iterator. The errors have
[a page of their own](errors.md).
"""
_ERRORS_HEAD = """# Errors

`except CheckpointError` catches all of them. Their fields are attributes, their text says what
happened, to which file or id, and what to do. All can be pickled. Which of them to try again is
told in [which errors to retry](../how-to/errors.md).
"""
_KIT = tuple(name for name in kit.__all__ if name != "RecordT")  # a type variable
_PARTS: tuple[tuple[str, ModuleType, tuple[str, ...]], ...] = (
    ("The writer", writer, ("AsyncCheckpointWriter", "SessionReader")),
    ("The interface", store, ("CheckpointStore", "BlobStore", "Transaction", "Ownership")),
    ("Types of records", store, ("RecordUnion",)),
    ("A store by its location", stores, ("open_store",)),
    ("Moving to another store", copying, ("copy_store", "CopyTotals")),
    ("What is stored", models, ("CheckpointData", "CheckpointRecord", "RawRecord")),
    ("Blobs", models, ("BlobRecord",)),
    ("Blobs, and what they refer to", blobs, ("BlobNode", "blob_digest", "blob_links")),
    ("What is reported", models, ("CheckpointMeta", "Finding", "RecoveryReport", "WriterStats")),
    ("Ids", models, ("SessionId", "CheckpointId", "new_checkpoint_id")),
    ("Conditions", models, ("Expected", "ANY_NEWEST", "AnyNewest")),
    (
        "Exact values: `aiocheckpoint.exact`",
        exact,
        ("to_json", "from_json", "Types", "OwnType"),
    ),
    ("Other types", models, ("Durability", "JsonValue")),
    ("PostgreSQL: `aiocheckpoint.stores.postgres`", postgres_store, ("PostgresStore",)),
    ("PostgreSQL: its schema", postgres_schema, ("schema_sql",)),
    ("A bucket: `aiocheckpoint.stores.s3`", s3_store, ("S3Store",)),
    ("LangGraph: `aiocheckpoint.adapters.langgraph`", saver, ("CheckpointSaver",)),
    ("LangGraph: moving threads", migration, ("copy_threads", "Copied", "CopyMismatchError")),
    ("LangGraph: what is stored", records, ("ThreadRecord", "session_of")),
    ("OpenTelemetry: `aiocheckpoint.adapters.opentelemetry`", opentelemetry, ("Telemetry",)),
    ("Long conversations: `aiocheckpoint.history`", history, history.__all__),
    ("Synchronous callers: `aiocheckpoint.portal`", portal, portal.__all__),
    ("A store of your own: `aiocheckpoint.kit`", kit, _KIT),
    ("For tests: `aiocheckpoint.testing`", testing, tuple(sorted(testing.__all__))),
)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _source(module: ModuleType) -> tuple[str, ast.Module]:
    text = inspect.getsource(module)
    return text, ast.parse(text)


def _home(module: ModuleType, name: str) -> ModuleType:
    """Return the module that defines a name; a package, the kit and `exact` bring it in."""
    brings_in = hasattr(module, "__path__") or module in (exact, kit)
    return sys.modules[getattr(module, name).__module__] if brings_in else module


def _found(module: ModuleType, name: str) -> tuple[ast.stmt, str]:
    """Return the definition of a name of a module and its docstring."""
    body = _source(module)[1].body
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, Definition) and node.name == name and not _is_overload(node):
            return node, ast.get_docstring(node) or ""
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            text = ast.literal_eval(following.value) if isinstance(following, ast.Expr) else ""
            return node, text
    raise LookupError(name)


def _text(module: ModuleType, node: ast.AST) -> str:
    return ast.get_source_segment(_source(module)[0], node) or ""


def _head(module: ModuleType, node: Definition) -> str:
    """Return a definition up to its body, constants that are defaults spelled out."""
    first = node.decorator_list[0] if _is_property(node) else node
    lines = _source(module)[0].splitlines()[first.lineno - 1 : node.body[0].lineno - 1]
    head = _REMARK.sub("", textwrap.dedent("\n".join(lines)))
    return _CONSTANT.sub(lambda match: f"= {_value(module, match[1])}", head)


def _value(module: ModuleType, name: str) -> str:
    for node in _source(module)[1].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return _text(module, node.value)
    return name


def _class_head(module: ModuleType, node: ast.ClassDef) -> str:
    """Return a class with its fields, or with its constructor."""
    fields = [_text(module, part) for part in node.body if isinstance(part, ast.AnnAssign)]
    constructors = [
        part
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "__init__" and not _is_overload(part)
    ]
    fields += [f"{_head(module, part)} ..." for part in constructors]
    body = "\n".join(fields)
    return f"{_head(module, node)}\n{textwrap.indent(body, '    ')}".removesuffix("\n")


def _is_property(node: Definition) -> bool:
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def _is_overload(node: Definition) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def _prose(docstring: str) -> str:
    """Return a docstring as Markdown: its sections as paragraphs and lists."""
    written: list[str] = []
    lines = docstring.splitlines()
    while lines:
        line = lines.pop(0)
        section = _SECTION.fullmatch(line)
        if section is None:
            written.append(line)
            continue
        body = []
        while lines and (not lines[0] or lines[0].startswith(" ")):
            body.append(lines.pop(0))
        text = textwrap.dedent("\n".join(body)).strip()
        written += [*_section(section[1], section[2], text), ""]
    return "\n".join(written).strip()


def _section(title: str, first_line: str, text: str) -> Iterator[str]:
    if title not in ("Args", "Attributes", "Raises"):
        yield f"**{title}:** {first_line} {text}".replace("  ", " ")
        return
    yield from (f"**{title}**", "")
    for item in re.split(r"\n(?! )", text):
        match = _ITEM.fullmatch(item.replace("\n    ", "\n  "))
        yield f"- `{match[1]}`: {match[2]}" if match else f"- {item}"


def _methods(node: ast.ClassDef) -> list[Definition]:
    return [
        part
        for part in node.body
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        and not part.name.startswith("_")
        and ast.get_docstring(part)
    ]


def _entry(module: ModuleType, name: str, level: str = "###") -> Iterator[str]:
    """Yield the Markdown of a name: its definition, its text, its methods."""
    node, docstring = _found(module, name)
    yield f"{level} {name}"
    if isinstance(node, ast.ClassDef):
        yield _code(_class_head(module, node))
    elif isinstance(node, Definition):
        yield _code(_head(module, node))
    else:
        yield _code(_text(module, node))
    yield _prose(docstring)
    if not isinstance(node, ast.ClassDef):
        return
    if name.endswith("Contract"):
        yield "\n".join(f"- `{part.name}`: {ast.get_docstring(part)}" for part in _methods(node))
        return
    for part in _methods(node):
        yield f"#### {name}.{part.name}"
        yield _code(_head(module, part))
        yield _prose(ast.get_docstring(part) or "")


def _code(text: str) -> str:
    return f"```py\n{text.rstrip().removesuffix(':')}\n```"


def _tree(kind: type[BaseException], depth: int = 0) -> Iterator[str]:
    others = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
    also = f" (also a `{others[0]}`)" if others and depth else ""
    yield f"{'  ' * depth}- [`{kind.__name__}`](#{kind.__name__.lower()}){also}"
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def pages() -> dict[Path, str]:
    """Return the pages that are written from the docstrings, by path."""
    api = [_NOTE, _API_HEAD]
    for title, module, names in _PARTS:
        api.append(f"## {title}")
        for name in names:
            api += _entry(_home(module, name), name)
    listed = [_NOTE, _ERRORS_HEAD, "\n".join(_tree(errors.CheckpointError))]
    for name in _in_order(errors.CheckpointError):
        listed += _entry(errors, name, "##")
    return {REFERENCE / "api.md": _joined(api), REFERENCE / "errors.md": _joined(listed)}


def _in_order(kind: type[BaseException]) -> Iterator[str]:
    yield kind.__name__
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _in_order(child)


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()

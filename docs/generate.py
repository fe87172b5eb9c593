"""Write the reference of the API, the adapters and the errors: `python -m docs.generate`."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from aiocheckpoint import errors

REFERENCE = Path(__file__).parent / "reference"
_SOURCES = Path(__file__).parents[1] / "src"
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
_ADAPTERS_HEAD = """# Adapters

What gives frameworks their sessions, savers and stores. Each needs the extra of its name, with
hyphens; [the documentation](../README.md) has a page on each. What takes a storage has `aclose` and
`async with`, which let go of it, and leave a store open that was given open.
"""
_ERRORS_HEAD = """# Errors

`except CheckpointError` catches all of them. Their fields are attributes, their text says what
happened, to which file or id, and what to do. All can be pickled. Which of them to try again is
told in [which errors to retry](../how-to/errors.md).
"""
_PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("The writer", "aiocheckpoint.writer", ("AsyncCheckpointWriter",)),
    (
        "The interface",
        "aiocheckpoint.store",
        ("CheckpointStore", "BlobStore", "SessionReader", "Transaction", "Ownership"),
    ),
    ("Types of records", "aiocheckpoint.store", ("RecordUnion",)),
    ("A store by its location", "aiocheckpoint.stores", ("open_store",)),
    ("Moving to another store", "aiocheckpoint.stores.copying", ("copy_store", "CopyTotals")),
    ("What is stored", "aiocheckpoint.models", ("CheckpointData", "CheckpointRecord", "RawRecord")),
    ("Blobs", "aiocheckpoint.models", ("BlobRecord",)),
    ("Blobs, and what they refer to", "aiocheckpoint", ("BlobNode", "blob_digest", "blob_links")),
    (
        "What is reported",
        "aiocheckpoint.models",
        ("CheckpointMeta", "Finding", "RecoveryReport", "WriterStats"),
    ),
    ("Ids", "aiocheckpoint.models", ("SessionId", "CheckpointId", "new_checkpoint_id")),
    ("Conditions", "aiocheckpoint.models", ("Expected", "ANY_NEWEST", "AnyNewest")),
    (
        "Exact values: `aiocheckpoint.exact`",
        "aiocheckpoint.exact",
        ("to_json", "from_json", "Types", "OwnType"),
    ),
    ("Other types", "aiocheckpoint.models", ("Durability", "JsonValue")),
    (
        "PostgreSQL: `aiocheckpoint.stores.postgres`",
        "aiocheckpoint.stores.postgres",
        ("PostgresStore",),
    ),
    ("PostgreSQL: its schema", "aiocheckpoint.stores.postgres.schema", ("schema_sql",)),
    ("A bucket: `aiocheckpoint.stores.s3`", "aiocheckpoint.stores.s3", ("S3Store",)),
)
_MODULES = (
    ("Long conversations", "aiocheckpoint.history"),
    ("Synchronous callers", "aiocheckpoint.portal"),
    ("A store of your own", "aiocheckpoint.kit"),
    ("For tests", "aiocheckpoint.testing"),
)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _source(module: str) -> tuple[str, ast.Module]:
    """Return a module's text; it is not imported, for it may need a framework."""
    path = _SOURCES.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return text, ast.parse(text)


def _home(module: str, name: str) -> str:
    """Return the module that defines a name, where another one brings it in."""
    for node in ast.walk(_source(module)[1]):
        if isinstance(node, ast.ImportFrom) and name in [
            alias.asname or alias.name for alias in node.names
        ]:
            return _home(str(node.module), name)
    return module


def _public(module: str) -> list[str]:
    """Return what a module lists as public, but for variables of types."""
    names: list[str] = ast.literal_eval(_value(module, "__all__"))
    return sorted(name for name in names if name != "RecordT")


def _found(module: str, name: str) -> tuple[ast.stmt, str]:
    """Return the definition of a name of a module and its docstring."""
    body = _source(module)[1].body
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, Definition) and node.name == name and not _is_overload(node):
            return node, ast.get_docstring(node) or ""
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            text = ast.literal_eval(following.value) if isinstance(following, ast.Expr) else ""
            return node, text
    raise LookupError(name)


def _text(module: str, node: ast.AST) -> str:
    return ast.get_source_segment(_source(module)[0], node) or ""


def _head(module: str, node: Definition) -> str:
    """Return a definition up to its body, constants that are defaults spelled out."""
    first = node.decorator_list[0] if _is_property(node) else node
    lines = _source(module)[0].splitlines()[first.lineno - 1 : node.body[0].lineno - 1]
    head = _REMARK.sub("", textwrap.dedent("\n".join(lines)))
    return _CONSTANT.sub(lambda match: f"= {_value(module, match[1])}", head)


def _value(module: str, name: str) -> str:
    for node in _source(module)[1].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return _text(module, node.value)
    return name


def _class_head(module: str, node: ast.ClassDef) -> str:
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


def _entry(module: str, name: str, level: str = "###") -> Iterator[str]:
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


def _chapter(title: str, module: str, names: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    if module == "aiocheckpoint.store" and "CheckpointStore" in names:
        yield _prose(ast.get_docstring(_source(module)[1]) or "")
    for name in names:
        yield from _entry(_home(module, name), name)


def pages() -> dict[Path, str]:
    """Return the pages that are written from the docstrings, by path."""
    api = [_NOTE, _API_HEAD]
    for title, module, names in _PARTS:
        api += _chapter(title, module, names)
    for title, module in _MODULES:
        api += _chapter(f"{title}: `{module}`", module, _public(module))
    adapters = [_NOTE, _ADAPTERS_HEAD]
    for path in sorted(_SOURCES.glob("aiocheckpoint/adapters/[a-z]*")):
        module = f"aiocheckpoint.adapters.{path.stem}"
        adapters += _chapter(f"`{module}`", module, _public(module))
    listed = [_NOTE, _ERRORS_HEAD, "\n".join(_tree(errors.CheckpointError))]
    for name in _in_order(errors.CheckpointError):
        listed += _entry(errors.__name__, name, "##")
    return {
        REFERENCE / "api.md": _joined(api),
        REFERENCE / "adapters.md": _joined(adapters),
        REFERENCE / "errors.md": _joined(listed),
    }


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

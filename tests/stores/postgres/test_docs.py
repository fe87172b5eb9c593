"""The page on PostgreSQL does what it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.stores.postgres import PostgresStore, schema_sql
from aiocheckpoint.stores.postgres.schema import VERSION
from tests.stores.postgres.server import PostgresServer, programs
from tests.test_docs import fenced

pytestmark = pytest.mark.servers

_PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "postgres.md"
_URL = "postgresql://app@db.example.org/agents"


async def _run(code: str, names: dict[str, Any]) -> None:
    compiled = compile(code, str(_PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)
    if inspect.isawaitable(result):
        await result


def _run_as_owner(command: str, server: PostgresServer) -> None:
    """Run a command of the page as its reader does: `python` and `psql` are on the path."""
    directories = [str(Path(sys.executable).parent), str(programs()), os.environ["PATH"]]
    environment = {
        "PATH": os.pathsep.join(directories),
        "PGHOST": str(server.directory),
        "PGUSER": "postgres",
        "PGOPTIONS": "-c client_min_messages=warning",
    }
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


async def test_its_examples_run(server: PostgresServer) -> None:
    """Every example runs, in order, for a role that has what the page grants and no more."""
    blocks = await asyncio.to_thread(fenced, _PAGE)
    owner = await asyncpg.connect(server.dsn())
    await owner.execute("create database agents")
    await owner.execute("create role app login; create role auditor login")
    await owner.execute("create schema agents_eu authorization app")
    await owner.close()
    owner = await asyncpg.connect(server.dsn("agents"))
    await owner.execute("grant create on database agents to app")
    _, prints_the_schema = [block.text for block in blocks if block.language == "bash"]
    await asyncio.to_thread(_run_as_owner, prints_the_schema, server)
    statements = [block.text for block in blocks if block.language == "sql"]
    assert len(statements) == 5
    await owner.execute(statements[0] + statements[1])
    names: dict[str, Any] = {}
    for block in blocks:
        if block.language == "py":
            await _run(block.text.replace(_URL, server.dsn("agents", "app")), names)
    app = await asyncpg.connect(server.dsn("agents", "app"))
    assert await app.fetchval(statements[2]) == 0
    (row,) = await app.fetch(statements[3])
    assert (row["session"], row["iteration"], row["trigger"]) == ("support-42", 1, "manual")
    (row,) = await app.fetch(statements[4])
    assert (row["iteration"], row["last_message"]) == (1, None)
    await app.close()
    await owner.close()
    async with PostgresStore(server.dsn("agents", "app")) as store, store.own("s") as owned:
        assert owned.token > 0
    async with PostgresStore(server.dsn("agents", "auditor")) as store:
        assert await store.load("support-42") is not None


def test_it_prints_the_schema() -> None:
    """The SQL is that of the schema and the version that are asked for."""
    assert "create schema if not exists" in schema_sql()
    assert schema_sql(since=VERSION) == ""
    assert '"other".checkpoint' in schema_sql("other")
    assert "aiocheckpoint." not in schema_sql("other")
    assert 'create table "aiocheckpoint".session' not in schema_sql(since=1)
    for wrong in (-1, VERSION + 1, True, "1", None):
        with pytest.raises(InvalidArgumentError, match="since"):
            schema_sql(since=wrong)  # type: ignore[arg-type]

"""The real Rust crate, `sh-layer2`, in a child process."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.interop.flat import flatten, unflatten

SOURCE_DIRECTORY = Path(__file__).parent / "driver"
EXECUTABLE = SOURCE_DIRECTORY / "target" / "release" / "interop-driver"
BUILD_COMMAND = "python -m tests.interop.build"


class RustError(Exception):
    """The crate, or the driver, answered with an error."""


class Rust:
    """One running driver; its calls are made one after the other."""

    def __init__(self, executable: Path = EXECUTABLE) -> None:
        self._process = subprocess.Popen(
            [executable], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Return the answer to a command; blobs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._mutex:
            self._process.stdin.write(json.dumps({"operation": operation, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RustError(f"the driver died of {operation!r}; see its stderr")
        answer = json.loads(line)
        if "error" in answer:
            raise RustError(answer["error"])
        return answer["ok"]

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Return the answer to a command without blocking the loop."""
        return await asyncio.to_thread(self.ask, operation, **arguments)

    async def save(self, root: Path, document: dict[str, Any], **options: Any) -> str:
        tokens = flatten(document)
        saved: str = await self.call("save", root=str(root), document=tokens, **options)
        return saved

    async def load(
        self, root: Path, session_id: str, checkpoint_id: str | None = None
    ) -> dict[str, Any] | None:
        ids = {"session_id": session_id, "checkpoint_id": checkpoint_id}
        tokens = await self.call("load", root=str(root), **ids)
        return None if tokens is None else unflatten(tokens)

    async def listing(self, root: Path, session_id: str) -> list[dict[str, Any]]:
        metas: list[dict[str, Any]] = await self.call("list", root=str(root), session_id=session_id)
        return metas

    async def delete(self, root: Path, session_id: str, checkpoint_id: str) -> bool:
        ids = {"session_id": session_id, "checkpoint_id": checkpoint_id}
        found: bool = await self.call("delete", root=str(root), **ids)
        return found

    async def verify(self, path: Path) -> bool:
        intact: bool = await self.call("verify", path=str(path))
        return intact

    async def values(
        self, root: Path, session_id: str, *, seed: int, count: int
    ) -> list[dict[str, Any]]:
        """Make the crate save `count` random checkpoints and return them."""
        saved = await self.call(
            "values", root=str(root), session_id=session_id, seed=seed, count=count
        )
        return [unflatten(tokens) for tokens in saved]

    async def read(self, text: str) -> Any:
        """Return what serde_json makes of a JSON text."""
        return unflatten(await self.call("read", text=text))


@functools.cache
def unavailable_reason() -> str | None:
    """Return why the driver cannot be used, and what to do; None when it can."""
    if not EXECUTABLE.exists():
        needs = "" if shutil.which("cargo") else "install cargo and "
        return f"the Rust driver is not built; {needs}run `{BUILD_COMMAND}`"
    with Rust() as rust:
        built_from = rust.ask("sources")
    if any((SOURCE_DIRECTORY / name).read_text() != source for name, source in built_from):
        return f"the Rust driver is older than its source; run `{BUILD_COMMAND}`"
    return None

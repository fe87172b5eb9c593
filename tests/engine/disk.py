"""A disk that forgets: what a power cut would leave is kept beside the real files.

Pages and names become durable by what is synced, as POSIX promises and no more. A failed sync
marks the pages clean: only who writes them again can make them durable, and each descriptor that
was open is told of the failure once. A power cut puts any part of what was not durable into the
place of the real files, whose inodes stay, so that the shared positions are still the log's own.

Everybody uses it from one thread; who would have to wait for a lock raises `WouldWaitError`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath

from tests.engine.kernel import Kernel
from tests.engine.nodes import Choice, Image, Node, content_after, walk_all


class Disk(Kernel):
    """A directory with all that is below it; see `Kernel`."""

    # Somebody else's hands

    def put(self, path: Path, data: bytes, modified_ns: int = 0) -> None:
        """Make a file, durable at once, as somebody else does."""
        for directory in reversed(path.parents):
            if self.node_of(str(directory)) is None and str(directory).startswith(self.outer):
                directory.mkdir()
                above = self.node_of(str(directory.parent))
                assert above is not None
                node = Node("directory", directory.stat().st_ino)
                above.names[directory.name] = above.durable_names[directory.name] = node
        path.write_bytes(data)
        if modified_ns:
            os.utime(path, ns=(modified_ns, modified_ns))
        above = self.node_of(str(path.parent))
        assert above is not None
        node = self._buried(path.stat().st_ino, path.name, str(path.parent))
        node.modified_ns = modified_ns
        node.write(0, data)
        node.sync()
        above.names[path.name] = above.durable_names[path.name] = node

    def remove(self, path: Path) -> None:
        """Remove a file, durably at once, as somebody else does."""
        path.unlink()
        above = self.node_of(str(path.parent))
        assert above is not None
        del above.names[path.name]
        above.durable_names.pop(path.name, None)

    # Power cuts

    def image(self, choice: Choice) -> Image:
        """Return what a power cut would leave now."""
        kept = {id(self._top): dict(self._top.durable_names)}
        for _, node in walk_all(self._top, self._pending):
            kept[id(node)] = dict(node.durable_names)
        for number, change in enumerate(self._pending):
            if choice.names(number):
                for directory, name, named in change:
                    if named is None:
                        kept[id(directory)].pop(name, None)
                    else:
                        kept[id(directory)][name] = named
        entries: dict[str, tuple[Node, bytes]] = {}
        self._enter(self._top, "", kept, choice, entries)
        return Image(entries)

    def _enter(
        self,
        directory: Node,
        prefix: str,
        kept: dict[int, dict[str, Node]],
        choice: Choice,
        entries: dict[str, tuple[Node, bytes]],
    ) -> None:
        for name, node in sorted(kept[id(directory)].items()):
            path = f"{prefix}{name}"
            entries[path] = (node, content_after(node, choice) if node.kind == "file" else b"")
            if node.kind == "directory":
                self._enter(node, f"{path}/", kept, choice, entries)

    def install(self, image: Image, control: bytes | None = b"", at: str = "") -> None:
        """
        Kill all processes, and go on with what a cut left.

        Args:
            image: what that is.
            control: another content for the file `at`; None for none, `b""` to leave it.
            at: its path below the outer directory.
        """
        self.close()
        for name in os.listdir(self.outer):
            path = f"{self.outer}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self.controls = []
        self.synced_control = 0
        self._pending = []
        self._top = Node("directory", self._top.inode)
        nodes: dict[int, Node] = {}
        for path, (old, data) in image.entries.items():
            if path == at:
                if control is None:
                    continue
                data = control or data  # noqa: PLW2901
            above = self.node_of(str(PurePath(self.outer, path).parent))
            assert above is not None
            found = nodes.get(id(old))
            if found is None:
                found = nodes[id(old)] = self._revived(old, data, f"{self.outer}/{path}")
            else:
                os.link(found.grave, f"{self.outer}/{path}")
            name = PurePath(path).name
            above.names[name] = above.durable_names[name] = found

    def _revived(self, old: Node, data: bytes, path: str) -> Node:
        node = Node(
            old.kind, old.inode, old.device, old.target, old.grave, old.modified_ns
        )  # fmt: skip
        if old.kind == "directory":
            os.mkdir(path)
            node.inode = os.stat(path).st_ino
        elif old.kind == "symlink":
            os.symlink(old.target, path)
        else:
            with open(old.grave, "r+b") as file:
                file.write(data)
                file.truncate()
            if old.modified_ns:
                os.utime(old.grave, ns=(old.modified_ns, old.modified_ns))
            os.link(old.grave, path)
            node.write(0, data)
            node.sync()
        return node

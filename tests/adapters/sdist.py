"""
A framework's own tests, from the source distribution of the version that is installed.

`own_tests(...)` runs them in a process of their own, with a pytest plugin that puts our class in
the place of the framework's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path


def own_tests(
    package: str,
    plugin: Path,
    paths: Iterable[str],
    deselected: Mapping[str, str],
    *,
    asyncio_mode: str = "auto",
    needs: Iterable[str] = (),
) -> int:
    """
    Run tests of a package's source distribution; return pytest's status.

    Args:
        package: its name on the package index.
        plugin: the module that puts our class in the place of theirs; it imports nothing of our
            tests, since theirs may be a package of the same name.
        paths: files of tests within the distribution.
        deselected: the ids of tests that do not apply, each with the reason.
        asyncio_mode: of pytest-asyncio; `strict` where anyio runs their tests.
        needs: packages that the tests import beyond what the framework does; they are installed.
    """
    if needs:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needs], check=True)
    with tempfile.TemporaryDirectory() as directory:
        root = unpacked(package, Path(directory))
        for test, reason in deselected.items():
            sys.stdout.write(f"deselected: {test}: {reason}\n")
        sys.stdout.flush()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            plugin.stem,
            "-o",
            f"asyncio_mode={asyncio_mode}",
        ]
        command += [f"--deselect={test}" for test in deselected]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, plugin.parent)))}
        return subprocess.run(
            [*command, *sys.argv[1:], *paths], cwd=root, env=environment, check=False
        ).returncode


def unpacked(package: str, directory: Path) -> Path:
    """Return the root of a source distribution, of the installed version, put into a directory."""
    wanted = f"{package}=={version(package)}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package]
    subprocess.run([*pip, "--dest", directory, wanted], check=True)
    (archive,) = directory.glob("*.tar.gz")
    shutil.unpack_archive(archive, directory)  # `filter` of tarfile came with 3.11.4
    (root,) = (path for path in directory.iterdir() if path.is_dir())
    return root

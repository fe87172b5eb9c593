"""Build the driver of the real Rust crate: `python -m tests.interop.build`."""

from __future__ import annotations

import shutil
import subprocess
import sys

from tests.interop.driver import EXECUTABLE, SOURCE_DIRECTORY


def main() -> int:
    cargo = shutil.which("cargo")
    if cargo is None:
        print("cargo is not installed: https://rustup.rs", file=sys.stderr)
        return 1
    command = [
        cargo,
        "build",
        "--release",
        "--locked",
        "--target-dir",
        str(SOURCE_DIRECTORY / "target"),
    ]
    built = subprocess.run(command, cwd=SOURCE_DIRECTORY, check=False)
    if built.returncode == 0:
        print(EXECUTABLE)
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())

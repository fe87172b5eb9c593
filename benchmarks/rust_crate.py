"""The real Rust crate on a multi-threaded tokio runtime, in a process of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.documents import documents
from benchmarks.rounds import UnavailableError
from benchmarks.saving import Job, Run

RUST = "sh-layer2 (Rust)"
DURABLE = "file and its directory yes, a new session's own directory no"

_PROJECT = Path(__file__).parent / "rust"
_PROGRAM = "sh-layer2-saves"


class _Task(Struct):
    directory: str
    sessions: int
    seconds: float
    min_saves: int
    documents: list[msgspec.Raw]


class _Report(Struct):
    elapsed_seconds: float
    latencies_ns: list[int]


def rust_saves(job: Job) -> Run:
    """Carry out a job in the Rust program; the first saves are not measured."""
    texts = [msgspec.Raw(document.text) for document in documents(job.size_bytes, 16)]
    task = _Task(str(job.directory), job.sessions, job.seconds, 1, texts)
    program = subprocess.run(
        [_program()], input=msgspec.json.encode(task), stdout=subprocess.PIPE, check=True
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = msgspec.json.decode(program.stdout, type=_Report)
    return Run(
        saves=len(report.latencies_ns),
        latencies_seconds=[nanoseconds / 1e9 for nanoseconds in report.latencies_ns],
        elapsed_seconds=report.elapsed_seconds,
        closed_seconds=report.elapsed_seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
    )


def _program() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", _PROJECT / "target"))
    program = target / "release" / _PROGRAM
    if program.exists():
        return program
    if shutil.which("cargo") is None:
        raise UnavailableError("needs Rust: https://rustup.rs")
    raise UnavailableError("not built: run `cargo build --release --locked` in benchmarks/rust")

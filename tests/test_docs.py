"""The texts are true: their examples run, their links lead somewhere, nothing public is missing.

How a page's examples are run, in a fresh directory, in their order, sharing their names:

* a `python` block is pasted into `python -m asyncio`, line by line: there a blank line ends a
  statement, and a loop is running already; the values that a prompt echoes are left out; a block
  whose first line is a comment with a file's name, `# agent.py`, is written to that file instead;
* the commands of a `console` block, behind `$ `, are run by a shell;
* what stands below a command, or in a `text` block right after a `python` block, must be what
  was printed; `...` stands for anything;
* the commands of a `bash` block are for a fresh clone: `pytest -m campaign tests/test_docs.py`.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import code
import contextlib
import doctest
import errno
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import tomllib
import types
import unittest.mock
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import langgraph.graph  # noqa: F401 - an example that is the first to import it would block a loop
import pytest
from docs.generate import REFERENCE, pages

import aiocheckpoint
from aiocheckpoint import exact, testing
from tests.command import run_command
from tests.stores.s3.fake_s3 import FakeS3

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
MODULES = sorted((REPOSITORY / "src").rglob("*.py"))
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")
_COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND_SECONDS = 60
_TOOL_ALONE = re.compile(r"aiocheckpoint [\w ./-]+")
_LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """
    A fenced block.

    Attributes:
        language: behind the opening fence.
        text: between the fences.
        line: where the text begins, 1 being the first line.
        output: what must be printed; None if the page does not say.
    """

    language: str
    text: str
    line: int
    output: str | None


def blocks(text: str, first_line: int = 1) -> list[Block]:
    """Return the fenced blocks of a text, each `python` block with the `text` block after it."""
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        line = first_line + text.count("\n", 0, match.start(2))
        follows = found and found[-1].language == "python" and not text[end : match.start()].strip()
        if match[1] == "text" and follows:
            found[-1] = found[-1]._replace(output=match[2])
        else:
            found.append(Block(match[1], match[2], line, None))
        end = match.end()
    return found


def require_output(expected: str, actual: str, block: Block) -> None:
    """Fail unless what was printed is what the page says."""
    same = doctest.OutputChecker().check_output(expected, actual, _LENIENT)
    assert same, f"line {block.line}: the page says\n{expected}\nbut it printed\n{actual}"


class Prompt(code.InteractiveConsole):
    """What `python -m asyncio` does with lines, but that errors are raised."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__({"__builtins__": builtins, **names})
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._runner = runner

    def runcode(self, code: types.CodeType) -> None:
        self._runner.run(self._run(code))

    async def _run(self, code: types.CodeType) -> None:
        result = types.FunctionType(code, self.locals)()
        if inspect.iscoroutine(result):
            await result

    def showsyntaxerror(self, *args: Any, **options: Any) -> None:
        raise  # noqa: PLE0704 - what is being handled


def run_python(block: Block, prompt: Prompt) -> None:
    """Paste a block, or write it to the file it names."""
    named = _FILE_NAME.match(block.text)
    if named:
        Path(named[1]).write_text(block.text, encoding="utf-8")
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), unittest.mock.patch("sys.displayhook"):
        for line in [*block.text.splitlines(), ""]:
            try:
                prompt.push(line)
            except Exception as error:
                error.add_note(f"pasted from line {block.line}: {line}")
                raise
    if block.output is not None:
        require_output(block.output, printed.getvalue(), block)


def run_console(block: Block) -> None:
    """Run the commands of a block."""
    commands = _COMMAND.findall(block.text)
    assert commands, f"line {block.line}: a console block needs a line that begins with $"
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": programs, "NO_COLOR": "1", "COLUMNS": "100"}
    # LangSmith, which comes with LangGraph, brings warnings of its own into any run of pytest.
    environment["PYTEST_ADDOPTS"] = "-p no:langsmith_plugin"
    for command, expected in commands:
        with unittest.mock.patch.dict(os.environ, environment):
            require_output(expected, printed_by(command), block)


def printed_by(command: str) -> str:
    """Return what a command prints; the tool's own is forked, unless the shell has a part in it."""
    if _TOOL_ALONE.fullmatch(command):
        done = run_command(*command.split()[1:])
        return done.stdout + done.stderr
    return subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    ).stdout


@pytest.fixture(name="in_fresh_directory")
def _in_fresh_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as at a prompt, where a file's name can be imported


@pytest.fixture(name="in_reach_of_a_bucket")
def _in_reach_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake = FakeS3().start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    yield
    fake.stop()


def runnable(path: Path) -> list[Block]:
    """Return the blocks of a page that are examples to run."""
    return [block for block in fenced(path) if block.language in ("python", "console")]


def fenced(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    return blocks(path.read_text(encoding="utf-8"))


_HERE = "tests/test_docs.py::"
_CLONE = f"{_HERE}test_the_tutorials_first_commands_work_in_a_fresh_clone"
_POSTGRES = "tests/stores/postgres/test_docs.py::"
# What runs the `bash` blocks of each page, in their order: they need a network or do not end.
BASH_BLOCKS = {
    "README.md": [
        f"{_HERE}test_the_readmes_first_command_works_in_a_fresh_clone",
        ".ci/run",
    ],
    "docs/contributing.md": [".ci/run"],
    "docs/how-to/fastapi.md": [f"{_HERE}test_the_fastapi_service_runs_with_two_workers"],
    # A campaign runs the second one for its help, this test with a database.
    "docs/how-to/langgraph.md": [
        _CLONE,
        "tests/langgraph/test_saver.py::test_the_command_copies_a_file",
    ],
    "docs/how-to/postgres.md": [_CLONE, f"{_POSTGRES}test_its_examples_run"],
    "docs/tutorial.md": [_CLONE],
}
# What runs all blocks of a page that need a framework or a server: `py`, and with a framework
# `bash`. Each is run in an environment of its own, by what stands behind it.
RUN_ELSEWHERE = {
    "docs/how-to/agent-framework.md": (
        "tests/adapters/agent_framework/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/claude-agent.md": (
        "tests/adapters/claude_agent/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/crewai.md": (
        "tests/adapters/crewai/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/google-adk.md": (
        "tests/adapters/google_adk/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/openai-agents.md": (
        "tests/adapters/openai_agents/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/other-frameworks.md": (
        "tests/adapters/other_frameworks/test_recipes.py::test_it_is_killed_and_goes_on",
        ".ci/recipes",
    ),
    "docs/how-to/postgres.md": (f"{_POSTGRES}test_its_examples_run", ".ci/run"),
    "docs/how-to/pydantic-ai.md": (
        "tests/adapters/pydantic_ai/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/pydantic-harness.md": (
        "tests/adapters/pydantic_harness/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
    "docs/how-to/strands.md": (
        "tests/adapters/strands/test_docs.py::test_its_examples_run",
        ".ci/run",
    ),
}


def test_every_block_is_tried_somewhere() -> None:
    """No page has a block that is neither run nor output, nor known to be run elsewhere."""
    tried = {"", "text", "json", "python", "console"}
    elsewhere = {page: {"py", "bash"} for page in RUN_ELSEWHERE}
    elsewhere["docs/how-to/postgres.md"] = {"py", "sql"}
    others: dict[str, list[str]] = {}
    for path in (path for path in PAGES if path not in GENERATED):
        page = relative(path)
        for block in fenced(path):
            assert page not in RUN_ELSEWHERE or block.language not in ("python", "console")
            if block.language not in tried | elsewhere.get(page, set()):
                others.setdefault(page, []).append(block.language)
    assert others == {page: ["bash"] * len(runners) for page, runners in BASH_BLOCKS.items()}


class Reader(Prompt):
    """A prompt that runs nothing."""

    def runcode(self, code: types.CodeType) -> None:
        """Leave it."""


@pytest.mark.parametrize("page", sorted(RUN_ELSEWHERE))
def test_what_is_run_elsewhere_can_be_pasted(page: str) -> None:
    """Each example of it is a file, by its name, or can be pasted into `python -m asyncio`."""
    with asyncio.Runner() as runner:
        for block in fenced(REPOSITORY / page):
            if block.language == "py" and not _FILE_NAME.match(block.text):
                run_python(block, Reader({}, runner))


def test_what_is_run_elsewhere_is_run_there() -> None:
    """Each test that is said to run a page exists, opens that page, and is run by the CI."""
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    recipes = (REPOSITORY / ".ci" / "recipes").read_text(encoding="utf-8")
    assert re.search(r"^\.ci/recipes$", ci, re.MULTILINE)
    assert "tests/adapters/other_frameworks" in recipes
    assert re.search(r"^done$", ci, re.MULTILINE)
    (extras,) = re.findall(
        r"^for extra in (.*); do\n    \.ci/adapter \"\$extra\"$", ci, re.MULTILINE
    )
    for page, (runner, where) in RUN_ELSEWHERE.items():
        source = source_of(runner)
        name = Path(page).name
        opens_it = f'run_page("{name}")' in source.function or f'"{name}"' in source.module
        assert opens_it, f"{runner} does not run {page}"
        assert where == ".ci/recipes" or name.removesuffix(".md") in [*extras.split(), "postgres"]
    for page, runners in BASH_BLOCKS.items():
        commands = [block.text for block in fenced(REPOSITORY / page) if block.language == "bash"]
        for command, runner in zip(commands, runners, strict=True):
            if runner == ".ci/run":
                assert command.strip() in ci
            else:
                assert source_of(runner).function


class Source(NamedTuple):
    """
    The text of a test.

    Attributes:
        module: the whole of it.
        function: its own.
    """

    module: str
    function: str


def source_of(test: str) -> Source:
    """Return the text of a test by its id, without the class."""
    path, _, name = test.partition("::")
    module = (REPOSITORY / path).read_text(encoding="utf-8")
    functions = [
        node
        for node in ast.walk(ast.parse(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    assert len(functions) == 1, test
    return Source(module, ast.get_source_segment(module, functions[0]) or "")


def relative(path: Path) -> str:
    """Return a path as the repository names it."""
    return str(path.relative_to(REPOSITORY))


GENERATED = {REFERENCE / name for name in ("adapters.md", "api.md", "errors.md")}
written = cache(pages)


_LONG_PAGES = {"backups.md", "cli.md", "langgraph.md", "test-your-store.md", "upgrade.md"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.long] if p.name in _LONG_PAGES else [])
        for p in PAGES
        if p not in GENERATED and runnable(p)
    ],
    ids=relative,
)
@pytest.mark.usefixtures("in_fresh_directory", "in_reach_of_a_bucket")
@pytest.mark.blocking
def test_examples_of_a_page_run(path: Path) -> None:
    """Every example of a page runs, in order, and prints what the page says."""
    with asyncio.Runner() as runner:
        prompt = Prompt({"__name__": "example"}, runner)
        for block in runnable(path):
            if block.language == "python":
                run_python(block, prompt)
            else:
                run_console(block)


def fresh_clone(tmp_path: Path) -> Path:
    """Return a clone of what is committed here."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    return clone


def shell(command: str, directory: Path) -> str:
    """Run commands as one does who has just opened a terminal, and return what they print."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    ran = subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_the_readmes_first_command_works_in_a_fresh_clone(tmp_path: Path) -> None:
    """The demo runs with nothing but Python, what it prints can be pasted, git sees none of it."""
    clone = fresh_clone(tmp_path)
    [demo, _] = [block for block in fenced(REPOSITORY / "README.md") if block.language == "bash"]
    printed = shell(demo.text, clone)
    commands = re.findall(r"^(?:Open one|Look around|Check again): +(.*)", printed, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert shell(command, clone)
    assert shell("git status --short", clone) == ""


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_the_tutorials_first_commands_work_in_a_fresh_clone(tmp_path: Path) -> None:
    """With them the rest of the tutorial, and of two other pages, has what it needs."""
    clone = fresh_clone(tmp_path)
    tutorial, langgraph = REPOSITORY / "docs/tutorial.md", REPOSITORY / "docs/how-to/langgraph.md"
    [venv] = [block.text for block in fenced(tutorial) if block.language == "bash"]
    [saver, mover] = [block.text for block in fenced(langgraph) if block.language == "bash"]
    postgres = next(
        b for b in fenced(REPOSITORY / "docs/how-to/postgres.md") if b.language == "bash"
    )
    printed = shell(f"{venv}{saver}{postgres.text}aiocheckpoint --version", clone)
    assert (
        shell(". .venv/bin/activate\npython -c 'import aiocheckpoint.stores.postgres'", clone) == ""
    )
    assert printed.endswith(f"aiocheckpoint {aiocheckpoint.__version__}\n")
    command, _, _ = mover.partition(" checkpoints.db")
    assert shell(f". .venv/bin/activate\n{command} --help", clone)


@pytest.mark.campaign
@pytest.mark.blocking
@pytest.mark.usefixtures("in_fresh_directory")
def test_the_fastapi_service_runs_with_two_workers(tmp_path: Path) -> None:
    """Two workers answer in one session, one turn after the other, and leave files behind."""
    page = REPOSITORY / "docs/how-to/fastapi.md"
    [service, _] = [block.text for block in fenced(page) if block.language == "python"]
    Path("service.py").write_text(service, encoding="utf-8")
    [command] = [block.text for block in fenced(page) if block.language == "bash"]
    socket = tmp_path / "socket"
    arguments = [*command.split()[1:], "--uds", str(socket)]
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *arguments], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        next(line for line in server.stderr if "startup complete" in line)
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://service") as client:
            with ThreadPoolExecutor(8) as pool:
                ask = partial(client.post, "/sessions/ann/messages", json={"text": "hi"})
                answers = [future.result() for future in [pool.submit(ask) for _ in range(40)]]
            assert {answer.status_code for answer in answers} <= {200, 409}
            turns = sorted(answer.json()["turn"] for answer in answers if answer.is_success)
            assert turns == list(range(1, len(turns) + 1))
            assert client.get("/health").json() == {"saves": "are durable"}
        server.terminate()
        server.communicate()
        assert server.wait(60) in (0, -signal.SIGTERM)
    assert len(list(Path("state/chat-ann/checkpoints").glob("cp_*.json"))) == len(turns)


_ASK_IN_THREADS = """
from concurrent.futures import ThreadPoolExecutor

def ask(_):
    return int(b"".join(application({"PATH_INFO": "/ann"}, lambda *of: None)))

with ThreadPoolExecutor(8) as pool:
    print(sorted(pool.map(ask, range(40))) == list(range(1, 41)))
"""


@pytest.mark.blocking
def test_the_synchronous_service_answers_threads(tmp_path: Path) -> None:
    """Each of many threads gets a turn of its own, and the process leaves all in files."""
    [service] = runnable(REPOSITORY / "docs/how-to/synchronous.md")
    done = subprocess.run(
        [sys.executable, "-c", service.text + _ASK_IN_THREADS],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
    assert len([*(tmp_path / "state/ann/checkpoints").glob("cp_*.json")]) == 40
    assert run_command("verify", tmp_path / "state").returncode == 0


def docstring_examples() -> Iterator[Any]:
    """Yield every fenced Python example of a docstring."""
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        # Every process that collects tests comes by here, and few modules have any.
        for node in ast.walk(ast.parse(source)) if "```python" in source else ():
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                for block in blocks(text, getattr(node, "lineno", 1)):
                    if block.language == "python":
                        yield pytest.param(block, id=f"{path.stem}-{block.line}")


@pytest.mark.parametrize("block", list(docstring_examples()))
@pytest.mark.usefixtures("in_fresh_directory")
def test_examples_of_docstrings_run(block: Block) -> None:
    """Every example of a docstring runs with the public names at hand."""
    names: dict[str, Any] = {"__name__": "example", "errno": errno}
    for module in (aiocheckpoint, testing):
        names |= {name: getattr(module, name) for name in module.__all__}
    with asyncio.Runner() as runner:
        run_python(block, Prompt(names, runner))


def anchors(path: Path) -> set[str]:
    """Return the fragments that lead to the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {text.replace(" ", "-") for text in plain}


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_relative_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a page names a file or directory, and a heading where it says so."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        place, _, fragment = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


def test_reference_is_what_the_docstrings_say() -> None:
    """The reference is what the docstrings give."""
    current = {path for path, text in written().items() if path.read_text(encoding="utf-8") == text}
    assert current == GENERATED, "run: python -m docs.generate"


def test_every_public_name_is_documented() -> None:
    """Every name in an `__all__` has its heading in the reference."""
    headings = set(_HEADING.findall("\n".join(written().values())))
    public = {*aiocheckpoint.__all__, *exact.__all__, *testing.__all__} - {"exact"}
    assert public - headings == set()


def test_every_error_has_a_row() -> None:
    """The page on what to try again has a row for each error of the tree."""
    page = (REPOSITORY / "docs" / "how-to" / "errors.md").read_text(encoding="utf-8")
    rows = {
        name for row in re.findall(r"^\| `.*?\|", page, re.MULTILINE) for name in row.split("`")
    }
    errors = {name for name in aiocheckpoint.__all__ if name.endswith("Error")}
    assert errors - rows == {"CheckpointError"}


def test_the_function_that_saves_patiently_tries_again_what_the_table_says() -> None:
    """Each error with a "Yes" that a save can raise is met, and the second attempt is made."""
    page = (REPOSITORY / "docs" / "how-to" / "errors.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(dict(_FENCE.findall(page)[:1])["python"], names)
    names["asyncio"] = types.SimpleNamespace(sleep=unittest.mock.AsyncMock())
    rows = re.findall(r"^\| (`.*?) \| (Yes|No)", page, re.MULTILINE)
    answers = {name: answer for row, answer in rows for name in re.findall(r"\w+Error", row)}
    of_other_calls = {"SessionOwnedError", "ErasureIncompleteError"}
    for name in sorted(answers.keys() - of_other_calls):
        kind = getattr(aiocheckpoint, name)
        save = unittest.mock.AsyncMock(side_effect=[kind.__new__(kind), "saved"])
        saving = names["save_patiently"](types.SimpleNamespace(save=save), None)
        if answers[name] == "Yes":
            assert asyncio.run(saving) == "saved", name
        elif issubclass(kind, aiocheckpoint.StorageError):
            saving.close()  # tried a few times, as all of its kind
        else:
            with pytest.raises(kind):
                asyncio.run(saving)


def test_every_command_and_option_is_documented() -> None:
    """Every verb of the command line and each of its options stands on the page of the CLI."""
    typer = pytest.importorskip("typer", reason="needs the extra cli")
    from aiocheckpoint.cli.app import app

    text = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+).*?`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name, command in typer.main.get_command(app).commands.items():
        assert name in sections
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                is_option = option.startswith("--")
                assert not is_option or f"`{option}" in sections[name], (name, option)


def test_the_readmes_test_command_is_the_one_that_is_run() -> None:
    """The README's command for the tests stands in `.ci/run`, word for word, as its last line."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^.*--group test.*$", readme, re.MULTILINE)
    lines = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == command


def test_what_the_readmes_test_command_leaves_out_is_run_by_the_ci() -> None:
    """All but the campaign and what a release has, by a command that the page on work tells."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    options = project["tool"]["pytest"]["ini_options"]["addopts"]
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    ((command, marks),) = re.findall(
        r"^(\S+pytest -m '\((.*)\) and not campaign')$", ci, re.MULTILINE
    )
    left_out = re.findall(r"\bnot (\w+)", options)
    assert {*left_out} == {"campaign", "release", *marks.split(" or ")}
    assert f"`{command}`" in (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")


HOUSE = REPOSITORY / "docs" / "explanation" / "architecture.md"
PACKAGE = REPOSITORY / "src" / "aiocheckpoint"
_HOUSE_LINE = re.compile(r"^  (\w+)(?:\.py|/) +(\w.*)$", re.MULTILINE)


def imported(path: Path) -> set[str]:
    """Return what a module imports, `from a import b` as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_house_is_as_described() -> None:
    """The page on the architecture has one line for each module of the package."""
    described = [name for name, _ in _HOUSE_LINE.findall(HOUSE.read_text(encoding="utf-8"))]
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    directories = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(described) == sorted(modules | directories)


_ROOMS = (
    "_format",
    "_disk",
    "_engine",
    "testing",
    "stores",
    "stores/s3",
    "stores/postgres",
    "adapters",
)
_ROOM_LINE = re.compile(r"^ +((?:\w+, )*\w+)/? +\w")


def described_in(room: str) -> list[str]:
    """Return the modules and packages that the page on the architecture names in a package."""
    indent = "  " * (room.count("/") + 1)
    lines = iter(HOUSE.read_text(encoding="utf-8").splitlines())
    name = room.rpartition("/")[2]
    for line in lines:
        if line.startswith(f"{indent}{name}/"):
            break
    found: list[str] = []
    for line in lines:
        if not line.startswith(f"{indent}  "):
            break
        if not line.startswith(f"{indent}   "):
            named = _ROOM_LINE.match(line)
            assert named, line
            found += named[1].split(", ")
    return found


@pytest.mark.parametrize("room", _ROOMS)
def test_each_room_is_as_described(room: str) -> None:
    """The page has one entry for each module of the larger packages, too."""
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in (PACKAGE / room).glob("*/__init__.py")}
    assert sorted(described_in(room)) == sorted(modules | packages)


def test_imports_go_one_way() -> None:
    """A module imports only from those that stand above it on the page on the architecture."""
    above: set[str] = set()
    for name, _ in _HOUSE_LINE.findall(HOUSE.read_text(encoding="utf-8")):
        path = PACKAGE / f"{name}.py"
        for module in imported(path) if path.exists() else ():
            package, _, rest = module.partition(".")
            if package == "aiocheckpoint":
                assert rest.partition(".")[0] in above, f"{name} imports {module}"
        above.add(name)


def test_a_wrong_example_is_noticed(in_fresh_directory: None) -> None:
    """An example that prints something else than its page says fails."""
    (block,) = blocks("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with (
        asyncio.Runner() as runner,
        pytest.raises(AssertionError, match=r"(?s)it printed\s+2"),
    ):
        run_python(block, Prompt({}, runner))


def test_what_cannot_be_pasted_is_noticed(in_fresh_directory: None) -> None:
    """A blank line within a statement, which ends it at a prompt, fails the page."""
    (block,) = blocks("```python\nif True:\n    x = 1\n\n    y = 2\n```\n")
    with asyncio.Runner() as runner, pytest.raises(IndentationError):
        run_python(block, Prompt({}, runner))

"""What the verbs share: arguments, output for people and for programs, and errors of use."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, TextIO, cast

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from aiocheckpoint import BlobStore, CheckpointCorruptError, CheckpointError, CheckpointMeta
from aiocheckpoint.cli.errors import EXIT_DAMAGED, EXIT_NOT_DONE, CommandError
from aiocheckpoint.cli.place import Place
from aiocheckpoint.kit import framework_of

Store = Annotated[
    Place,
    typer.Argument(metavar="DIR", parser=Place, help="The directory of the sessions, or a URL."),
]


def typed(text: str) -> str:
    """
    Return an id as it was typed, or copied from what was printed: ids are UTF-8 in any locale.

    Of bytes that the locale has no letters for, as those of the C locale, Python makes surrogates.
    """
    if not _UNDECODED.search(text):
        return text
    try:
        return text.encode(sys.getfilesystemencoding(), "surrogateescape").decode()
    except UnicodeError:
        return text  # which is refused by its name, as any id that is no UTF-8


_UNDECODED = re.compile(r"[\udc80-\udcff]")
Session = Annotated[str, typer.Argument(metavar="SESSION", parser=typed, help="The session's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
MaxBytes = Annotated[
    int | None,
    typer.Option("--max-bytes", metavar="N", min=1, help="The largest file to read; 64 MiB."),
]

LONG_TEXT = 50_000
"""So many characters are printed as they are: to lay them out, or to colour them, takes seconds."""

SOME_SESSION = "SESSION"
"""What stands for an id in a command, where nobody here knows it."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPES = {"\n": r"\n", "\t": r"\t", "\\": r"\\", "'": r"\'"}
_LINE_END = re.compile(r"\s*[\n\t]\s*")
_PADDING = re.compile(r" +$", re.MULTILINE)
_PIPE_COLUMNS = 10_000
_LONGEST_ID_CELLS = 40  # of a UUID, and most others
_OTHER_COLUMNS_CELLS = 60
_FEWEST_COLUMNS = 20
_NAME = "aiocheckpoint"
_held: list[TextIO] = []


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        discard_output()


class _Unpadded:
    """Standard output without the spaces with which tables fill their lines."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        return sys.stdout.write(_PADDING.sub("", text))


class _ClosedOutput:
    """Standard output that was closed before the start: what is printed there is an error."""

    encoding = "utf-8"

    @property
    def buffer(self) -> _ClosedOutput:
        """The same, for bytes."""
        return self

    def isatty(self) -> bool:
        """Tell that it is no terminal."""
        return False

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def write(self, _: object) -> int:
        """Refuse to."""
        raise OSError(errno.EBADF, "standard output is closed")


def fill_standard_streams() -> None:
    """Let no file that is opened later have the number of a standard stream that is closed."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - until the end
    if sys.stdout is None:
        _held.append(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end
        sys.stdout = cast("TextIO", _ClosedOutput())
    if sys.stderr is None:
        discard_errors()


def discard_output() -> None:
    """Print to nowhere from here on: whoever read the pipe has seen enough."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end


def discard_errors() -> None:
    """Say what is wrong to nowhere: standard error is closed or full."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end


async def require_store(store: BlobStore[Any], place: Place) -> None:
    """
    Refuse a place where nobody has ever saved: it is mistyped, or another one is meant.

    Raises:
        CommandError: it is one.
    """
    if not await store.exists():
        raise CommandError(f"no store at {place}: no session was ever saved there; {place.advice}")


def no_such_session(place: Place, session_id: str) -> CommandError:
    """Return the error for a session without checkpoints."""
    hint = f"`{command_line('sessions', place)}` names those there are"
    return CommandError(f"no checkpoints of session {session_id!r} in {place}; {hint}")


def quoted(argument: str | Path | Place) -> str:
    """Return an argument as a shell takes it, and a terminal shows it in one line."""
    text = str(argument)
    if _is_what_it_looks_like(text):
        return shlex.quote(text)
    is_plain = unicodedata.is_normalized("NFC", text) and _has_letters_for(text)
    escape = _escaped if is_plain else _escaped_in_ascii
    return f"$'{''.join(map(escape, text))}'"


def _is_what_it_looks_like(text: str) -> bool:
    """Tell whether no other text looks the same: it is printable, and its accents are in place."""
    has_head = not unicodedata.combining(text[:1] or "-")
    is_whole = text.isprintable() and unicodedata.is_normalized("NFC", text)
    return is_whole and has_head and _has_letters_for(text)


def _has_letters_for(text: str) -> bool:
    """Tell whether standard output has all letters of a text; it spells out those it lacks."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    shows = character.isprintable() and not unicodedata.combining(character)
    return character if shows and character not in _ESCAPES else _escaped_in_ascii(character)


def _escaped_in_ascii(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isascii() and character.isprintable():
        return character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors=errors))


def word(text: str | Path | Place) -> str:
    """
    Return an id, or another short text, so that no two look alike.

    What does not show, as a line's end or a space at an end, is there in the words of a shell.
    """
    plain = str(text)
    shows = _is_what_it_looks_like(plain) and plain == plain.strip() and "  " not in plain
    return plain if plain and shows and not plain.startswith(("'", "$'")) else quoted(plain)


def command_line(*arguments: str | Path | Place) -> str:
    """Return a command as one may type it here, in the way that this one was called."""
    words = [*map(quoted, arguments)]
    if any(word.startswith("-") for word in words):
        words.insert(1, "--")  # behind the verb
    return " ".join([_program(), *words])


def recover_anyway(place: Place, session: str) -> str:
    """Return the command that moves aside also what a framework's session cannot go on without."""
    return command_line("recover", place, session).replace(" recover ", " recover --anyway ", 1)


def not_written(place: Place, count: int = 1) -> str:
    """Say of files that are not there yet where it is what they will hold, and what writes them."""
    them = "it" if count == 1 else "them"
    command = command_line("flush", place)
    return f"not there yet: the journal has {them}; `{command}` writes {them}"


def _program() -> str:
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{quoted(sys.executable)} -m {_NAME}"
    found = shutil.which(_NAME)
    if called.stem != _NAME or (found and called.exists() and called.samefile(found)):
        return _NAME
    return quoted(called)


@contextmanager
def advised(directory: Place, session: str | None = None) -> Iterator[None]:
    """Say of what is wrong how it is mended here, not from Python."""
    try:
        yield
    except CheckpointError as error:
        raise CommandError(told(error, directory, session), exit_status_of(error)) from error


def exit_status_of(error: CheckpointError) -> int:
    """Return the exit status of what could not be done for an error."""
    return EXIT_DAMAGED if isinstance(error, CheckpointCorruptError) else EXIT_NOT_DONE


def told(error: CheckpointError, directory: Place, session: str | None = None) -> str:
    """
    Return what an error says, with commands in the place of methods.

    Args:
        error: any.
        directory: where.
        session: what was asked for, of which the error may not be; None for a call about all, of
            which `verify` tells what to do.
    """
    own = None if session is None else session_of(error)
    return in_shell_words(str(error), directory, session if own is None else own)


def session_of(error: CheckpointError) -> str | None:
    """Return the session that an error is about, None where it does not tell."""
    session: str | None = getattr(error, "session_id", None)
    return session


def with_options(text: str) -> str:
    """Return what the library says with options in the place of its arguments."""
    text = text.replace("raise max_bytes of the writer", "raise --max-bytes")
    return text.replace("Raise lock_timeout_seconds if it", "Try again if it")


def in_shell_words(text: str, directory: Place, session: str | None) -> str:
    """Return what the library says with commands in the place of its methods."""
    text = with_options(text).replace("flush()", f"`{command_line('flush', directory)}`")
    if session is None:
        verify = f"`{command_line('verify', directory)}` says what to do"
        text = text.replace("recover(session_id) moves damaged files to the quarantine", verify)
        session = SOME_SESSION
    framework = framework_of(session)
    if framework is not None:  # `recover` alone refuses what its advice is about
        removal = framework.removal
        command = f"`{recover_anyway(directory, session)}`"
        text = text.replace(removal, removal.replace("recover(session_id)", command))
    return text.replace("recover(session_id)", f"`{command_line('recover', directory, session)}`")


def console() -> Console:
    """Return the console of standard output; plain, and as wide as it takes, in a pipe."""
    screen = _Screen(highlight=False, soft_wrap=False)
    if screen.is_terminal:
        return screen
    pipe = cast("IO[str]", _Unpadded())
    return _Screen(file=pipe, highlight=False, width=_PIPE_COLUMNS)


def print_json(value: object) -> None:
    """Print a value as indented JSON, in UTF-8 whatever the terminal's encoding."""
    plain = msgspec.to_builtins(value, enc_hook=_as_text)
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    # Within texts alone, and the same to whoever reads it: what could drive a terminal, or is no
    # UTF-8, as half a surrogate.
    print_bytes(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode())


def print_bytes(text: bytes, end: bytes = b"\n") -> None:
    """Print a text as it is, and what ends it."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text + end)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard_output()


def _as_text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def safe(text: str) -> str:
    """Return a text with the control characters spelled out that could drive a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return a text as one safe line."""
    return safe(_LINE_END.sub(" ", text))


def cell(text: str, style: str = "") -> Text:
    """Return a table cell or line of any text, markup and control characters inert."""
    return Text(one_line(text), style, overflow="fold")


def print_line(screen: Console, text: str, style: str = "") -> None:
    """Print one line of any text and any length; paths in it can be copied as they are."""
    screen.print(Text(one_line(text), style), soft_wrap=True)


def print_error(text: str) -> None:
    """Print one line of what is wrong, or keeps the command waiting."""
    sys.stderr.write(f"{_NAME}: {one_line(text)}\n")


def print_pairs(screen: Console, pairs: Iterable[tuple[Text, Text]], *, gap: bool = False) -> None:
    """
    Print texts beside their names; in a pipe no line of them is broken, however long it is.

    Args:
        screen: where to.
        pairs: names and texts.
        gap: whether an empty line follows each.
    """
    pairs = [*pairs]
    if screen.is_terminal and sum(len(text) for _, text in pairs) <= LONG_TEXT:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        for name, text in pairs:
            grid.add_row(name, text)
            if gap:
                grid.add_row()
        screen.print(grid)
        return
    # By hand: the screen would take a hundred times as long, and print nothing before its end.
    width = max((name.cell_len for name, _ in pairs), default=0) + 2
    columns = max(screen.width - width, _FEWEST_COLUMNS) if screen.is_terminal else None
    try:
        for name, text in pairs:
            name.align("left", width)
            first, *others = _folded(text.plain, columns)
            lines = [first, *(" " * width + line for line in others), *([""] if gap else [])]
            if screen.is_terminal:
                screen.print(name, end="", soft_wrap=True)  # in its colour
            else:
                lines[0] = name.plain + first
            screen.file.write("".join(f"{line}\n" for line in lines))
    except BrokenPipeError:
        screen.on_broken_pipe()


def _folded(text: str, columns: int | None) -> list[str]:
    """Return the lines of a text, those that are longer than a terminal is wide in pieces."""
    lines = text.split("\n")
    if columns is None:
        return lines
    words = re.compile(rf"(.{{1,{columns}}})(?:\s+|$)|(\S{{{columns}}})")
    folded: list[str] = []
    for line in lines:
        if len(line) <= columns and line.isascii():
            folded.append(line)
        elif line.isascii():
            folded += [found[1] or found[2] for found in words.finditer(line)]
        else:
            folded += chop_cells(line, columns)
    return folded


def print_problems(directory: Place, problems: Iterable[tuple[str | None, str, str | None]]) -> int:
    """Say what is wrong, by session and by what it is called; return the exit status."""
    status = 0
    for session, name, problem in problems:
        if problem is not None:
            status = EXIT_DAMAGED
            text = f"{word(name)}: {in_shell_words(problem, directory, session)}"
            print_error(text)
    return status


def shown_words(screen: Console, texts: Iterable[str]) -> dict[str, str]:
    """
    Return how each id or trigger of a table is shown: in a pipe whole.

    At a terminal one that is longer than most, and would fill line after line, is cut in its
    middle, unless it would look like another one then.
    """
    words = {text: word(text) for text in texts}
    if not screen.is_terminal:
        return words
    max_cells = max(_LONGEST_ID_CELLS, screen.width - _OTHER_COLUMNS_CELLS)
    shown = {text: _cut(whole, max_cells) for text, whole in words.items()}
    alike = Counter(shown.values())
    return {text: cut if alike[cut] == 1 else words[text] for text, cut in shown.items()}


def _cut(text: str, max_cells: int) -> str:
    """Return a text that is at most so wide, without its middle if need be."""
    if cell_len(text) <= max_cells:
        return text
    tail_cells = max_cells // 2
    head = chop_cells(text, max_cells - tail_cells - 1)[0]
    tail = chop_cells(text[::-1], tail_cells)[0][::-1]
    return f"{head}…{tail}"


def saved_cells(meta: CheckpointMeta, shown: Mapping[str, str]) -> tuple[Text, Text, Text]:
    """
    Return the cells of when a checkpoint was saved, its trigger as it is shown, its iteration.

    `-` is for what is not known, of a damaged one, and for a number below 0, which counts nothing:
    what LangGraph stores before and between its steps has one.
    """
    is_known = meta.problem is None or bool(meta.checksum)
    has_iteration = is_known and meta.iteration >= 0
    return (
        cell(time_text(meta.saved_at)),
        cell(shown[meta.trigger] if is_known and meta.trigger else "-"),
        cell(str(meta.iteration) if has_iteration else "-"),
    )


def plain_table(*headings: str) -> Table:
    """
    Return a table with these headings.

    Those that begin with `>` are for numbers; with `=`, for what is never broken over lines.
    """
    table = Table(box=SIMPLE_HEAD, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: JustifyMethod = "right" if heading.startswith(">") else "left"
        no_wrap = heading.startswith("=")
        table.add_column(heading.lstrip(">="), justify=justify, no_wrap=no_wrap)
    return table


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts, as `1 kill` or `2 kills`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_text(moment: datetime) -> str:
    """Return a time as people read it, UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"

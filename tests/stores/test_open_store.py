"""`open_store`: the right store by its location, and one of it however many ask."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointData,
    CheckpointError,
    CheckpointRecord,
    CheckpointStore,
    InvalidArgumentError,
    NestedCallError,
    RawRecord,
    RecordTypeError,
    Transaction,
    UnsupportedOperationError,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.adapters._storage import Opened
from aiocheckpoint.cli import main
from aiocheckpoint.stores import SharedWriter
from aiocheckpoint.stores.postgres import PostgresStore
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import (
    AcrossSessionsContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DurabilityContract,
    LargeValue,
    OwnershipContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
)

Reopen = Callable[[Any], Awaitable[Any]]
_place = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture(name="directory")
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_place) as path:
        yield Path(path) / "state"


def record(session_id: str = "s", iteration: int = 0) -> CheckpointData:
    return CheckpointData(session_id=session_id, iteration=iteration)


@pytest.mark.few(40)
class TestSharedStore(
    AcrossSessionsContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DurabilityContract,
    OwnershipContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
):
    """A handle keeps the contract, and so do two on one store."""

    @pytest.fixture(name="store")
    async def _store(self, directory: Path) -> AsyncIterator[CheckpointStore[CheckpointData]]:
        store = open_store(directory)
        yield store
        await store.aclose()

    @pytest.fixture(name="other")
    async def _other(self, directory: Path) -> AsyncIterator[CheckpointStore[CheckpointData]]:
        store = open_store(directory)
        yield store
        await store.aclose()

    async def test_work_may_ask_another_client(
        self, store: CheckpointStore[CheckpointData], other: CheckpointStore[CheckpointData]
    ) -> None:
        """Two that share a store are one client: what work asks of either is a call of its own."""

        async def work(_session: Transaction[CheckpointData]) -> None:
            await other.load("s")

        with pytest.raises(NestedCallError):
            await store.update("s", work)

    @pytest.fixture(name="bounded_store")
    async def _bounded_store(
        self, directory: Path
    ) -> AsyncIterator[CheckpointStore[CheckpointData]]:
        store = open_store(directory, max_checkpoints=3)
        yield store
        await store.aclose()

    @pytest.fixture(name="blob_store")
    async def _blob_store(self, directory: Path) -> AsyncIterator[BlobStore[LargeValue]]:
        store = open_store(directory, record_type=LargeValue)
        yield store
        await store.aclose()

    @pytest.fixture(name="reopen")
    async def _reopen(self, directory: Path) -> AsyncIterator[Reopen]:
        opened: list[BlobStore[CheckpointData]] = []

        async def reopen(store: Any) -> Any:
            await store.aclose()
            opened.append(open_store(directory))
            return opened[-1]

        yield reopen
        for store in opened:
            await store.aclose()


class TestLocations:
    async def test_a_directory_is_a_path_or_a_url(self, directory: Path) -> None:
        """A str, a Path and a `file://` URL name the same directory."""
        place = directory.with_name("a b")
        locations: tuple[str | Path, ...] = (str(place), place, place.as_uri())
        for number, location in enumerate(locations):
            async with open_store(location) as store:
                await store.save(record(iteration=number))
                assert len(await store.list("s")) == number + 1

    def test_opening_touches_nothing(self, directory: Path) -> None:
        """Without a call there is no directory, no thread and no loop."""
        threads = {*threading.enumerate()}
        store = open_store(directory)
        assert not directory.exists()
        assert {*threading.enumerate()} <= threads
        assert repr(store) == f"<store {str(directory)!r} open>"

    @pytest.mark.parametrize("location", ["redis://h", "mysql://u:secret@h/d", "http://h/p"])
    def test_an_unknown_kind_is_refused_by_name(self, location: str) -> None:
        """The error says which kinds there are, and tells no password."""
        with pytest.raises(InvalidArgumentError, match="postgresql:// or s3://") as refused:
            open_store(location)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("kind", ["s3", "postgresql", "postgres", "file", "S3"])
    def test_a_url_that_lost_its_slashes_is_no_directory(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A forgotten slash, or a Path made of a URL, does not store on the local disk."""
        monkeypatch.chdir(tmp_path)
        broken: list[Any] = [f"{kind}:{rest}" for rest in ("u:secret@h", "/h", "h/p")]
        for location in (*broken, Path(f"{kind}://h/p")):
            with pytest.raises(InvalidArgumentError, match=f"begins with {kind}://") as refused:
                open_store(location)
            assert "secret" not in str(refused.value)
            with pytest.raises(InvalidArgumentError):
                AsyncCheckpointWriter(location)
        assert not [*tmp_path.iterdir()]

    @pytest.mark.parametrize("rest", ["host/srv", "u:secret@host/srv", "srv", "/srv?x=1", "/srv#1"])
    def test_a_file_url_that_says_more_than_a_path_is_refused(self, rest: str) -> None:
        """Neither another machine's path nor a part of the path is taken for the directory."""
        with pytest.raises(InvalidArgumentError, match="%3F and %23") as refused:
            open_store(f"file://{rest}")
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("location", ["", 7, None])
    def test_what_is_no_location_is_refused(self, location: Any) -> None:
        """So is what is neither a path nor a URL."""
        with pytest.raises(InvalidArgumentError):
            open_store(location)

    @pytest.mark.parametrize("location", ["\0", "a\0b", "\ud800"])
    def test_what_no_path_can_be_is_refused_at_once(self, location: str) -> None:
        """No call is tried with it, and the error can be printed."""
        for make in (open_store, AsyncCheckpointWriter):
            with pytest.raises(InvalidArgumentError) as refused:
                make(location)
            str(refused.value).encode()
        with pytest.raises(InvalidArgumentError):
            open_store("file:///a%00b")

    def test_a_path_of_any_bytes_is_one(self) -> None:
        """A name that is no UTF-8 is a path on Linux."""
        for make in (open_store, AsyncCheckpointWriter):
            make(os.fsdecode(b"state-\xff"))

    def test_wrong_options_are_refused_at_once(self) -> None:
        """They do not wait for the first call."""
        wrong: Any = int
        with pytest.raises(RecordTypeError):
            open_store("state", record_type=wrong)
        wrong_values = {"max_bytes": 0, "max_checkpoints": 0, "lock_timeout_seconds": -1}
        for name, value in wrong_values.items():
            options: dict[str, Any] = {name: value}
            with pytest.raises(InvalidArgumentError):
                open_store("state", **options)

    @pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgres"), ("s3", "s3")])
    def test_a_missing_driver_is_named(
        self, scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error says what to install."""
        monkeypatch.setitem(sys.modules, f"aiocheckpoint.stores.{extra}", None)
        with pytest.raises(
            UnsupportedOperationError, match=rf"the extra `{extra}`: .* -m pip install"
        ):
            open_store(f"{scheme}://u:secret@h/d")

    @pytest.mark.blocking
    @pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgres"), ("s3", "s3")])
    def test_what_it_says_to_install_is_the_extra(
        self, scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each package of the extra is named, and no other: this library is on no index yet."""
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
        needs = project["project"]["optional-dependencies"][extra]
        monkeypatch.setitem(sys.modules, f"aiocheckpoint.stores.{extra}", None)
        with pytest.raises(UnsupportedOperationError) as refused:
            open_store(f"{scheme}://h/d")
        command = str(refused.value).partition(" -m pip install ")[2]
        assert command.split() == [re.split("[><=;]", need)[0] for need in needs]

    @pytest.mark.blocking
    def test_a_driver_that_is_imported_later_is_missed_at_once(self) -> None:
        """The client of S3 takes long to import; that it is not there shows all the same."""
        code = (
            "import importlib.util as util\n"
            "find = util.find_spec\n"
            "util.find_spec = lambda name: None if name == 'aiobotocore' else find(name)\n"
            "from aiocheckpoint import open_store, UnsupportedOperationError\n"
            "try: open_store('s3://bucket/prefix')\n"
            "except UnsupportedOperationError as error: print(error)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        assert "aiobotocore" in told
        assert "-m pip install aiobotocore aiohttp" in told

    @pytest.mark.parametrize(
        "location", ["postgresql://u:secret@h/d", "s3://b/p", Path("s3://b/p"), "file:///state"]
    )
    def test_the_writer_takes_no_url(self, location: Any) -> None:
        """It is refused by name, the error points here, and tells no password."""
        with pytest.raises(InvalidArgumentError, match="open_store") as refused:
            AsyncCheckpointWriter(location)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "text",
        [
            *('"postgresql://u:secret@h/d"', "'s3://b/p'", " s3://b/p", "\ts3://b", "\ufeffs3://b"),
            *("s3://b/p ", "s3://b/p\n", "postgresql://h/d?schema=x'", "\u201cfile:///p\u201d"),
            *("u:secret@h/d?x=://", "://u:secret@h/d", "agents:s3://b/p", "./s3://b"),
            *("?schema=agents", "/agents?schema=secret", "h/d?migrate=no", "?"),
            *(" state", "state\n", '"/data/state"', "'s3:b'"),
        ],
    )
    @pytest.mark.some(7)
    def test_a_text_that_is_almost_a_url_is_no_directory(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A quote, white space or a variable that is not set stores nothing on the local disk."""
        monkeypatch.chdir(tmp_path)
        for make in (open_store, AsyncCheckpointWriter):
            with pytest.raises(InvalidArgumentError) as refused:
                make(text)
            assert "secret" not in str(refused.value)
        out, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            for line in (["sessions", text], ["copy", text, "x"], ["copy", str(tmp_path), text]):
                assert main(line) == 2
        assert "secret" not in out.getvalue() + told.getvalue()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "$STATE",
                "$STATE/agents",
                "${STATE}",
                "/srv/${STATE}/a",
                "/srv/app-$ENV",
                "$(pwd)/a",
            ),
            *("%STATE%", "%STATE%/a", "/srv/%STATE%", "None", "None/agents", "null", "undefined/a"),
            *("~", "~/state", "~nobody.here/state", "file:///srv/$STATE"),
            *("STATE=/srv/state", "STATE=", "STATE_2=./state", "STATE=../a", "STATE=~/a"),
            "s3://b/PREFIX=/a",
            *(
                "s3://$BUCKET/x",
                "s3://b/$PREFIX",
                "s3://b/a-${PREFIX}/x",
                "s3://b/None",
                "s3://None",
            ),
            *("postgresql://$HOST/a", "postgresql://u:secret@h/${DATABASE}", "postgresql://h/null"),
            *("postgresql//a", "postgres//u:secret@h/a", "s3//b", "S3//b/p", "file//p", "./s3:/b"),
        ],
    )
    @pytest.mark.some(12)
    def test_a_text_that_was_to_be_filled_in_is_no_location(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A variable that nobody has expanded, or a missing colon, stores nothing anywhere."""
        monkeypatch.chdir(tmp_path)
        for make in (open_store, AsyncCheckpointWriter, partial(Opened, record_type=RawRecord)):
            with pytest.raises(InvalidArgumentError) as refused:
                make(text)
            assert "secret" not in str(refused.value)
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            for line in (["sessions", text], ["copy", text, "x"], ["copy", str(tmp_path), text]):
                assert main(line) == 2
        assert "secret" not in told.getvalue()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.blocking  # it looks at the directory
    @pytest.mark.parametrize(
        "name", ["$STATE", "${A}", "%STATE%", "None", "null", "~", "a$b", "A="]
    )
    async def test_a_directory_that_is_called_so_can_be_meant(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By a Path, by a text that begins with ./, or by its URL; the error says so."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InvalidArgumentError, match=r"a Path, or begins with \./"):
            open_store(name)
        quoted = name.replace("%", "%25").replace("$", "%24")
        for location in (Path(name), f"./{name}", f"file://{tmp_path}/{quoted}"):
            async with open_store(location) as store:
                await store.save(record())
        for directory in (Path(name), f"./{name}"):
            async with AsyncCheckpointWriter(directory) as writer:
                assert await writer.ids("s")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert await asyncio.to_thread(main, ["list", f"./{name}", "s"]) == 0
        assert out.getvalue()

    @pytest.mark.parametrize(
        "text",
        [
            *("STATE=state", "tenant=/x", "YEAR=2026/x", "DAY=.5/x", "c3RhdGU=/x", "srv/A=/x"),
            *("state$", "5$", "$5", "100%", "%41%42/x", "a/None", "none", "Nonesuch", "nullable"),
            *(
                "s3",
                "s3/a",
                "s3-cache//x",
                "file",
                "postgres/data",
                "state~",
                "a/~b",
                "a~/b",
                "~ x",
            ),
        ],
    )
    def test_a_name_that_only_resembles_one_is_a_directory(self, text: str) -> None:
        """Nothing is refused that nobody was to fill in."""
        assert repr(open_store(text)) == f"<store {str(Path(text))!r} open>"
        assert repr(AsyncCheckpointWriter(text)).startswith("<AsyncCheckpointWriter")

    @pytest.mark.parametrize(
        ("url", "wanted"),
        [
            ("postgresql://app@h.invalid/my agents", "white space"),
            ("postgresql://app:my secret@h.invalid/agents", "white space"),
            ("postgresql://h.invalid/a?migrate=maybe", "migrate=yes or migrate=no"),
        ],
    )
    def test_a_wrong_url_of_postgresql_is_told_by_all(self, url: str, wanted: str) -> None:
        """`open_store`, and every verb, whether it may change a schema or not, say the same."""
        with pytest.raises(InvalidArgumentError, match=wanted) as refused:
            open_store(url)
        told = io.StringIO()
        for line in (["sessions", url], ["verify", url], ["recover", url, "s"]):
            with contextlib.redirect_stderr(told):
                assert main(line) == 2
        assert told.getvalue().count(wanted) == 3
        assert "secret" not in str(refused.value) + told.getvalue()

    @pytest.mark.parametrize("text", ["s3://b/p ", "'s3://b/p'", "\ns3://b/p"])
    def test_a_bucket_has_no_stray_ends(self, text: str) -> None:
        """They would be a part of the prefix, and so another store."""
        with pytest.raises(InvalidArgumentError, match="quote or white space"):
            S3Store(text)

    @pytest.mark.blocking  # it looks at the directory
    @pytest.mark.parametrize("name", [" state", '"state"', "?schema=x", "what?", "state\n"])
    async def test_a_path_says_that_it_is_meant(self, name: str, tmp_path: Path) -> None:
        """A directory may have any name, by a Path, or by a text with another beginning."""
        async with open_store(tmp_path / name) as store:
            await store.save(record())
        assert (tmp_path / name / "s").is_dir()
        async with AsyncCheckpointWriter(tmp_path / name) as writer:
            assert await writer.ids("s")
        url = f"file://{tmp_path}/{name.replace('?', '%3F')}" + "/"
        async with open_store(url) as store:
            assert await store.ids("s")

    @pytest.mark.parametrize("scheme", ["file", "s3", "postgresql"])
    def test_the_writer_names_what_it_was_given(self, scheme: str) -> None:
        """Where the slashes are missing, the error does not show any."""
        with pytest.raises(InvalidArgumentError, match=f"'{scheme}:...'"):
            AsyncCheckpointWriter(f"{scheme}:state")


def threads_since(before: list[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were started since, and do not end."""
    later = [thread for thread in threading.enumerate() if thread not in before]
    for thread in later:
        thread.join(60)
    return [thread for thread in later if thread.is_alive()]


def dropped(held: list[Any]) -> None:
    """Let go of what nobody else holds."""
    held.clear()
    gc.collect()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestSharing:
    @pytest.mark.blocking
    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it counts descriptors")
    async def test_many_handles_cost_what_one_costs(self, directory: Path) -> None:
        """150 of one location share threads and descriptors, and all of them work."""
        first = open_store(directory)
        assert isinstance(first, SharedWriter)
        await first.save(record())
        await first.load("s")
        await first.flush()
        threads, descriptors = threading.active_count(), _descriptors()
        others = [open_store(directory) for _ in range(150)]
        await asyncio.gather(*(store.save(record()) for store in others))
        await first.flush()  # while files are written, each has a descriptor
        assert threading.active_count() <= threads + 6  # of the pools, which had not grown yet
        assert _descriptors() <= descriptors + 6
        for store in others:
            await store.aclose()
        assert len(await first.ids("s")) == 151
        await first.aclose()
        assert _descriptors() < descriptors

    @pytest.mark.blocking
    async def test_the_last_one_closes(self, directory: Path) -> None:
        """A handle that is closed refuses, and the others go on; then all is released."""
        threads = threading.enumerate()
        one, two = open_store(directory), open_store(directory)
        await one.save(record())
        await two.load("s")
        await one.aclose()
        await one.aclose()
        with pytest.raises(WriterClosedError):
            await one.load("s")
        await two.save(record(iteration=1))
        await two.aclose()
        assert threads_since(threads) == []
        async with open_store(directory) as again:
            assert len(await again.list("s")) == 2

    async def test_a_directory_is_flushed_and_counted(self, directory: Path) -> None:
        """Each handle of a directory has what its writer alone can do; one of a server has not."""
        async with open_store(directory) as one, open_store(f"file://{directory}") as other:
            assert isinstance(one, SharedWriter)
            assert isinstance(other, SharedWriter)
            await one.save(record())
            await other.flush()
            (meta,) = await other.list("s")
            assert meta.path is not None
            assert await asyncio.to_thread(meta.path.exists)
            assert other.stats().changes >= 1
            assert other.stats() == one.stats()
            assert other.stats().unflushed_changes == 0
        with pytest.raises(WriterClosedError):
            await one.flush()
        with pytest.raises(WriterClosedError):
            one.stats()
        for name in ("flush", "stats"):
            assert not hasattr(open_store("postgresql:///agents"), name)

    @pytest.mark.parametrize("location", ["state", "postgresql://h.invalid/a", "s3://bucket/a"])
    async def test_tells_what_it_keeps(self, location: str) -> None:
        """`max_checkpoints` is read without a call to the store, and after it was closed, too."""
        for kept in (None, 3):
            store: Any = open_store(location, max_checkpoints=kept)
            assert (store.max_checkpoints, store._held) == (kept, None)
            of_itself: Any = store._store  # the writer, or the store of the server
            assert of_itself.max_checkpoints == kept
            await store.aclose()
            assert (store.max_checkpoints, of_itself.max_checkpoints) == (kept, kept)
            with pytest.raises(AttributeError):
                store.max_checkpoints = 5

    async def test_other_options_are_another_store(self, directory: Path) -> None:
        """Handles with other options or record types do not share, and see the same."""

        class Base(CheckpointRecord):
            pass

        stores: list[Any] = [
            open_store(directory),
            open_store(directory, max_checkpoints=5),
            open_store(directory, record_type=CheckpointRecord),
        ]
        await stores[0].save(record())
        assert [(await store.load("s")).checkpoint_id for store in stores[1:]] == [
            (await stores[0].load("s")).checkpoint_id
        ] * 2
        assert len({id(store._store) for store in stores}) == 3
        for store in stores:
            await store.aclose()

    @pytest.mark.blocking
    async def test_one_that_is_dropped_does_not_count(self, directory: Path) -> None:
        """A handle that was not closed and is gone does not keep the store open."""
        threads = threading.enumerate()
        kept, lost = open_store(directory), [open_store(directory)]
        await lost[0].save(record())
        await kept.load("s")
        dropped(lost)
        await kept.aclose()
        assert threads_since(threads) == []

    @pytest.mark.blocking
    async def test_the_last_one_that_is_dropped_warns(self, directory: Path) -> None:
        """It is as with a writer: nothing is lost, and a warning tells."""
        threads = threading.enumerate()
        store = open_store(directory)
        await store.save(record())
        held = [store]
        del store
        with pytest.warns(ResourceWarning, match="was not closed"):
            dropped(held)
        async with open_store(directory) as again:
            assert await again.load("s") is not None
        assert threads_since(threads) == []  # nobody writes there while the directory is removed

    def test_every_loop_may_use_a_directory(self, directory: Path) -> None:
        """One handle works on loops one after the other, and in threads at once."""
        store = open_store(directory)
        asyncio.run(_saved(store, 0))
        workers = [
            threading.Thread(target=asyncio.run, args=(_saved(store, n),)) for n in range(1, 5)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        asyncio.run(_counted(store, 5))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
    @pytest.mark.blocking
    def test_a_child_has_a_store_of_its_own(self, directory: Path) -> None:
        """A handle that was used before a fork works in the child, and goes on in the parent."""
        store = open_store(directory)
        asyncio.run(_saved(store, 0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of a pool are there
            child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(_counted_and_saved(store))
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        asyncio.run(_counted(store, 2))


async def _saved(store: BlobStore[CheckpointData], number: int) -> None:
    await store.save(record(iteration=number))


async def _counted(store: BlobStore[CheckpointData], number: int) -> None:
    assert len(await store.list("s")) == number
    await store.aclose()


async def _counted_and_saved(store: BlobStore[CheckpointData]) -> None:
    assert len(await store.list("s")) == 1
    await store.save(record(iteration=1))
    await store.aclose()


_SCHEMES = st.sampled_from(
    [
        *("postgresql://", "postgres://", "PostgreSQL://", "s3://", "redis://", "file://"),
        *("postgresql:", "postgresql:/", "postgresql//", "//", "s3:/", "pg+x://", "postgres ql://"),
    ]
)
_PASSWORDS = st.text(st.sampled_from("?#/@:&=;%[]\\ ,$7é\t"), max_size=4).flatmap(
    lambda odd: st.permutations([*odd, "QZX", "XQJ", "JZQ"]).map("".join)
)
_REST = st.sampled_from(["@host/db", "@host:5432/db?schema=s", "@[::1]/db", "@h1,h2:1/db?user=u@t"])


@pytest.mark.blocking  # the driver of PostgreSQL looks for password files
@given(_SCHEMES, st.sampled_from(["app", "", "a%40b"]), _PASSWORDS, _REST)
def test_no_part_of_a_password_is_ever_shown(
    scheme: str, user: str, password: str, rest: str
) -> None:
    """Whatever is wrong with a URL, and whatever stands in its password: no error and no text."""
    location = f"{scheme}{user}:{password}{rest}"
    shown: list[object] = []
    for make in (open_store, PostgresStore, S3Store, AsyncCheckpointWriter):
        try:
            store: Any = make(location)
            shown.append(repr(store))
            if make is open_store and scheme.lower().startswith("postgres"):
                shown.append(repr(store._plan.kind(store._plan.location)))
        except CheckpointError as error:
            shown.append(error)
    out, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        for line in (["demo", "--directory", location], ["flush", location]):
            assert main(line) == 2
    shown += [out.getvalue(), told.getvalue()]
    assert [it for it in shown for part in ("QZX", "XQJ", "JZQ") if part in str(it)] == []


def test_no_password_is_shown() -> None:
    """The repr of a handle tells the kind of the store alone."""
    assert "secret" not in repr(open_store("postgresql://u:secret@h/d"))

"""`aiocheckpoint copy`, and the URLs of stores where other verbs take a directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from aiocheckpoint.cli.place import Place
from tests.cli.conftest import Tool, damaged, saved
from tests.trees import checkpoint_files


class TestCopy:
    def test_everything_is_there(self, store: Path, tmp_path: Path, tool: Tool) -> None:
        """It exits with 0, says how much it was, and the target has the same files."""
        target = tmp_path / "target"
        done = tool("copy", store, target)
        assert (done.status, done.errors) == (0, "")
        assert "2 sessions, 4 checkpoints copied" in done.output
        documents = [json.loads(p.read_text()) for p in checkpoint_files(store, "support-42")]
        assert [
            json.loads(p.read_text()) for p in checkpoint_files(target, "support-42")
        ] == documents
        assert tool("verify", target).status == 0

    def test_called_again_it_goes_on(self, store: Path, tmp_path: Path, tool: Tool) -> None:
        """What is there already is not copied again; JSON says how much was."""
        target = tmp_path / "target"
        assert tool("copy", store, target).status == 0
        again = tool("copy", store, target.as_uri(), "--json")
        assert again.status == 0
        assert again.json == {
            "sessions": 2, "checkpoints": 0, "skipped": 4, "blobs": 0, "bytes": 0,
            "only_in_target": 0,
        }  # fmt: skip

    def test_it_says_what_was_read(self, store: Path, tmp_path: Path, tool: Tool) -> None:
        """What was there before was not: by which command it is."""
        target = tmp_path / "target"
        done = tool("copy", store, target)
        assert "4 checkpoints copied and read back" in done.output
        assert "verify" not in done.output
        done = tool("copy", store, target)
        assert "0 checkpoints copied, 4 there before and not read" in done.output
        assert f"verify {target}` reads all" in done.output

    def test_damage_of_the_target_is_told_as_such(
        self, store: Path, tmp_path: Path, tool: Tool
    ) -> None:
        """With the command that looks there: the source is intact."""
        target = tmp_path / "target"
        tool("copy", store, target)
        checkpoint_files(target, "support-42")[-1].write_bytes(b"")
        done = tool("copy", store, target)
        assert done.status == 1
        assert "in the target" in done.errors
        assert f"verify {target}`" in done.errors
        assert f"verify {store}" not in done.errors

    def test_damage_is_told(self, store: Path, tmp_path: Path, tool: Tool) -> None:
        """It exits with 1 and says what mends it; the other session is copied."""
        damaged(checkpoint_files(store, "support-42")[-1])
        done = tool("copy", store, tmp_path / "target")
        assert done.status == 1
        assert "is damaged" in done.errors
        assert "only" in tool("list", tmp_path / "target", "a/b 客服").output

    def test_what_the_target_has_of_its_own_is_left_alone(
        self, store: Path, tmp_path: Path, tool: Tool
    ) -> None:
        """A session of the same id that holds something else is refused by name."""
        target = tmp_path / "target"
        saved(target, CheckpointData(session_id="support-42", checkpoint_id="theirs"))
        done = tool("copy", store, target)
        assert done.status == 2
        assert "'support-42' cannot be copied" in done.errors
        assert "1 session, 1 checkpoint copied" in done.output
        assert "incomplete" in done.output
        assert len(checkpoint_files(target, "support-42")) == 1
        assert "only" in tool("list", target, "a/b 客服").output

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_every_session_that_is_refused_is_told(
        self, options: tuple[str, ...], tmp_path: Path, tool: Tool
    ) -> None:
        """However many: a line for each, and how many; what was copied is told as not all."""
        source, target = tmp_path / "source", tmp_path / "target"
        for root, key in ((source, "ours"), (target, "theirs")):
            of = [CheckpointData(session_id=f"s{n}", checkpoint_id=key) for n in range(12)]
            saved(root, *of)
        saved(source, CheckpointData(session_id="whole", checkpoint_id="ours"))
        damaged(checkpoint_files(source, "s3")[0])
        done = tool("copy", source, target, *options)
        assert done.status == 2
        if options:
            assert (done.json["sessions"], done.json["checkpoints"]) == (1, 1)
        else:
            assert "1 session, 1 checkpoint copied" in done.output
            assert "0 there before; incomplete" in done.output
        assert "12 sessions are refused" in done.errors
        for number in range(12):
            named = [line for line in done.errors.splitlines() if f"'s{number}'" in line]
            assert len(named) == 1
            assert "cannot be copied" in named[0]
        assert "ours" in tool("list", target, "whole").output

    def test_of_damage_in_several_sessions_each_is_told(
        self, store: Path, tmp_path: Path, tool: Tool
    ) -> None:
        """All are named, with the command that mends it, in the words of the command line."""
        (more,) = saved(store, CheckpointData(session_id="more", checkpoint_id="only"))
        files = [damaged(file) for file in (checkpoint_files(store, "support-42")[-1], more)]
        done = tool("copy", store, tmp_path / "target")
        assert done.status == 1
        assert "2 sessions are refused" in done.errors
        assert all(str(file) in done.errors for file in files)
        assert done.errors.count("verify") == 2

    def test_a_directory_within_the_other_is_refused(
        self, store: Path, tmp_path: Path, tool: Tool
    ) -> None:
        """It would be one of the other's sessions; neither is touched."""
        (session,) = (path for path in store.iterdir() if path.name == "support-42")
        for source, target in (
            (store, session),
            (store, (store / "new" / "place").as_uri()),
            (session, store),
        ):
            done = tool("copy", source, target)
            assert done.status == 2
            assert "is within" in done.errors
        assert not (store / "new").exists()
        assert not (session / ".aiocheckpoint").exists()
        assert tool("verify", store).status == 0

    def test_a_place_is_not_copied_to_itself(
        self, store: Path, tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However it is named: relative, absolute, by a link or a URL; nothing is "verified"."""
        link = tmp_path / "link"
        link.symlink_to(store)
        monkeypatch.chdir(store.parent)
        names = [str(store), store.name, f"./{store.name}/", str(link), store.as_uri()]
        for source in names:
            for target in names:
                done = tool("copy", source, target)
                assert (done.status, done.output) == (2, "")
                assert "to itself" in done.errors
        assert tool("copy", tmp_path / "no", tmp_path / "x" / ".." / "no").status == 2
        assert not (tmp_path / "no").exists()

    @pytest.mark.parametrize("name", ["nothing", "empty", "emptied"])
    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_no_store_is_no_source(
        self, name: str, options: tuple[str, ...], tmp_path: Path, tool: Tool
    ) -> None:
        """A directory that is not there, or holds no sessions, is an error, not "verified"."""
        (tmp_path / "empty").mkdir()
        saved(tmp_path / "emptied", CheckpointData(session_id="s"))
        shutil.rmtree(tmp_path / "emptied" / "s")
        for target in ("target", "filled"):
            saved(tmp_path / "filled", CheckpointData(session_id="s", checkpoint_id="a"))
            done = tool("copy", tmp_path / name, tmp_path / target, *options)
            assert (done.status, done.output) == (2, "")
            told = {
                "nothing": "does not exist",
                "empty": "no store at",
                "emptied": "no sessions in",
            }
            assert told[name] in done.errors

    def test_a_file_is_no_target(self, store: Path, tmp_path: Path, tool: Tool) -> None:
        """It is told what it is, and stays."""
        (tmp_path / "file").write_text("mine")
        done = tool("copy", store, tmp_path / "file")
        assert (done.status, done.output) == (2, "")
        assert "is a file; give the directory" in done.errors
        assert (tmp_path / "file").read_text() == "mine"

    def test_what_only_the_target_has_is_counted(
        self, store: Path, tmp_path: Path, tool: Tool
    ) -> None:
        """What was deleted in the source, or never there, is told, too."""
        target = tmp_path / "target"
        assert "only in" not in tool("copy", store, target).output
        saved(target, CheckpointData(session_id="theirs"))
        done = tool("copy", store, target)
        assert done.status == 0
        assert "reads all; 1 session only in the target" in done.output
        (file,) = saved(target, CheckpointData(session_id="long" * 99))
        file.write_bytes(b"")  # so that not even its id is known
        assert tool("copy", store, target, "--json").json["only_in_target"] == 2


class TestUrls:
    def test_verbs_take_the_url_of_a_store(self, store: Path, tool: Tool) -> None:
        """Every verb does with the URL of a directory what it does with its path."""
        url = store.as_uri()
        for verb, *rest in (
            ("sessions",),
            ("verify",),
            ("flush",),
            ("list", "support-42"),
            ("list", "nobody"),
            ("show", "support-42"),
            ("show", "support-42", "step1", "--json"),
            ("recover", "support-42"),
        ):
            assert tool(verb, url, *rest) == tool(verb, store, *rest)
        file = checkpoint_files(store, "support-42")[0]
        assert tool("verify", file.as_uri()).output == tool("verify", file).output

    @pytest.mark.parametrize("url", ["file:///{}/no", "file://elsewhere/{}", "file:///{}?x=1"])
    def test_a_file_url_that_is_none_is_told(self, url: str, store: Path, tool: Tool) -> None:
        """One of another machine, with options, or of what is not there; by every verb."""
        url = url.format(str(store).strip("/"))
        for verb, *rest in (
            ("sessions",), ("verify",), ("flush",), ("list", "s"), ("show", "s"), ("recover", "s"),
            ("copy", "other"),
        ):  # fmt: skip
            done = tool(verb, url, *rest)
            assert (done.status, done.output) == (2, "")
            assert "does not exist" in done.errors or "of this machine" in done.errors
        assert not (store / "no").exists()

    @pytest.mark.parametrize("text", ["s3:/bucket/x", "postgresql:/host/db", "file:state"])
    def test_a_url_without_its_slashes_is_told(
        self, text: str, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not taken for a directory of that name, also where there is one."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / text).mkdir(parents=True)
        for verb, *rest in (("sessions",), ("recover", "s"), ("copy", "target"), ("verify",)):
            done = tool(verb, text, *rest)
            assert (done.status, done.output) == (2, "")
            assert f"a str that begins with {text.partition(':')[0]}://" in done.errors
        assert list((tmp_path / text).iterdir()) == []

    def test_what_is_about_files_is_for_directories(self, tool: Tool) -> None:
        """A store on a server has nothing to flush."""
        done = tool("flush", "s3://bucket/state")
        assert done.status == 2
        assert "s3://bucket/state is no directory" in done.errors

    def test_an_unknown_kind_of_store_is_told(self, tool: Tool) -> None:
        """It is one line, and tells no password."""
        done = tool("sessions", "mysql://user:secret@host/db")
        assert done.status == 2
        assert "postgresql://" in done.errors
        assert "secret" not in done.errors

    def test_a_password_is_not_shown(self) -> None:
        """Of a URL everything is shown but the password, and the options that may be one."""
        place = Place("postgresql://user:secret@host:5432/db?password=secret")
        assert str(place) == "postgresql://user@host:5432/db"

    def test_a_command_that_is_named_is_about_the_same_schema(self) -> None:
        """What is told to be typed looks where the command looked that tells it."""
        place = Place("postgresql://host/db?password=secret&schema=agents_eu")
        assert str(place) == "postgresql://host/db?schema=agents_eu"
        where = "postgresql:///db?host=%2Frun%2Fpostgresql&port=5433&user=app&schema=eu"
        assert str(Place(f"{where}&password=secret&sslpassword=secret")) == where
        assert str(Place("state/")) == "state"

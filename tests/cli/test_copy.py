"""`aiocheckpoint copy`, and the URLs of stores where other verbs take a directory."""

from __future__ import annotations

import json
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
        }  # fmt: skip

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
        assert len(checkpoint_files(target, "support-42")) == 1
        assert "only" in tool("list", target, "a/b 客服").output

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

    @pytest.mark.parametrize("name", ["nothing", "empty"])
    def test_no_store_is_no_source(self, name: str, tmp_path: Path, tool: Tool) -> None:
        """A directory that is not there, or holds no sessions, is an error."""
        (tmp_path / "empty").mkdir()
        done = tool("copy", tmp_path / name, tmp_path / "target")
        assert (done.status, done.output) == (2, "")


class TestUrls:
    def test_verbs_take_the_url_of_a_store(self, store: Path, tool: Tool) -> None:
        """Sessions, list, show, verify and recover do with a URL what they do with a directory."""
        url = store.as_uri()
        for verb in ("sessions", "verify"):
            there, here = tool(verb, url), tool(verb, store)
            assert (there.status, there.errors) == (0, "")
            assert there.output.replace(url, str(store)) == here.output
        assert tool("list", url, "support-42").output == tool("list", store, "support-42").output
        assert "message 2" in tool("show", url, "support-42").output
        document = tool("show", url, "support-42", "step1", "--json").json
        assert (document["checkpoint_id"], "_checksum" in document) == ("step1", False)
        assert tool("recover", url, "support-42").status == 0

    def test_an_unknown_session_is_named(self, store: Path, tool: Tool) -> None:
        """The error names the URL, and the command that lists what there is."""
        done = tool("list", store.as_uri(), "nobody")
        assert done.status == 2
        assert f"sessions {store.as_uri()}" in done.errors

    def test_what_is_about_files_is_for_directories(self, store: Path, tool: Tool) -> None:
        """A store on a server has nothing to flush."""
        done = tool("flush", store.as_uri())
        assert done.status == 2
        assert "is no directory" in done.errors

    def test_an_unknown_kind_of_store_is_told(self, tool: Tool) -> None:
        """It is one line, and tells no password."""
        done = tool("sessions", "mysql://user:secret@host/db")
        assert done.status == 2
        assert "postgresql://" in done.errors
        assert "secret" not in done.errors

    def test_a_password_is_not_shown(self) -> None:
        """Of a URL everything is shown but the password and the options."""
        place = Place("postgresql://user:secret@host:5432/db?password=secret")
        assert str(place) == "postgresql://user@host:5432/db"
        assert str(Place("state/")) == "state"

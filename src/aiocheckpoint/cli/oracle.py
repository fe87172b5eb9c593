"""What the demo's parent knows: which saves were acknowledged, and which of them are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiocheckpoint import AsyncCheckpointWriter, CheckpointCorruptError, CheckpointData, Finding
from aiocheckpoint.cli.agents import Conversation, Event, Resumed, Saved, Saving
from aiocheckpoint.cli.json_files import JsonFiles


class SessionTally:
    """
    One session as its process reported it and as the disk has it.

    Attributes:
        script: the conversation it replays.
        step: how far it has come.
        saving: the step whose save was called and has not returned; None for no such.
        acknowledged: the checkpoint id of each step whose save returned.
        resumed_at: the step at which it went on, once for each restart it lived to see.
        verified: how many acknowledged checkpoints the last check found there and intact.
        lost: the acknowledged steps that were not there, or not as they were saved.
        is_complete: whether the last check found the whole conversation.
        newest_file: the newest checkpoint at the last check.
    """

    def __init__(self, script: Conversation) -> None:
        self.script = script
        self.step = 0
        self.saving: int | None = None
        self.acknowledged: dict[int, str] = {}
        self.resumed_at: list[int] = []
        self.verified = 0
        self.lost: set[int] = set()
        self.is_complete = False
        self.newest_file: Path | None = None

    @property
    def steps(self) -> int:
        """How many steps the whole conversation has."""
        return len(self.script.messages)


class Oracle:
    """
    Judges a store by what its users were told.

    Args:
        scripts: the conversation of each session.
    """

    def __init__(self, scripts: Mapping[str, Conversation]) -> None:
        self.tallies = {session_id: SessionTally(script) for session_id, script in scripts.items()}
        self._processes = 0

    def process_started(self) -> None:
        """Forget what the last process was about to do."""
        self._processes += 1
        for tally in self.tallies.values():
            tally.saving = None

    def note(self, event: Event) -> None:
        """Take in what the process reports."""
        tally = self.tallies[event.session_id]
        match event:
            case Resumed(step=step):
                if self._processes > 1:
                    tally.resumed_at.append(step)
                tally.lost.update(done for done in tally.acknowledged if done > step)
                tally.step = step
            case Saving(step=step):
                tally.saving = step
            case Saved(step=step, checkpoint_id=checkpoint_id):
                tally.saving = None
                tally.step = step
                tally.acknowledged[step] = checkpoint_id

    @property
    def steps(self) -> int:
        """How many steps all conversations have."""
        return sum(tally.steps for tally in self.tallies.values())

    @property
    def steps_done(self) -> int:
        """How far all sessions have come."""
        return sum(tally.step for tally in self.tallies.values())

    @property
    def in_flight(self) -> int:
        """How many saves have been called and not returned."""
        return sum(tally.saving is not None for tally in self.tallies.values())

    @property
    def acknowledged(self) -> int:
        """How many saves have returned, over all processes."""
        return sum(len(tally.acknowledged) for tally in self.tallies.values())

    @property
    def verified(self) -> int:
        """How many of them the last check found there and intact."""
        return sum(tally.verified for tally in self.tallies.values())

    @property
    def lost(self) -> int:
        """How many of them were missing, damaged or not what was saved, at any check."""
        return sum(len(tally.lost) for tally in self.tallies.values())

    @property
    def is_complete(self) -> bool:
        """Whether the last check found every conversation whole."""
        return all(tally.is_complete for tally in self.tallies.values())

    async def check(self, directory: Path) -> tuple[Finding, ...]:
        """
        Compare the disk with what was acknowledged, while no other process uses it.

        Every acknowledged checkpoint must load by its id with the messages it was saved with,
        and the newest one of a session must not be older.

        Returns:
            damage that `check` of the library finds. Not what a killed save may leave behind.
        """
        async with AsyncCheckpointWriter(directory) as writer:
            for session_id, tally in self.tallies.items():
                await _check_session(writer, session_id, tally)
            findings = await writer.check()
        return tuple(finding for finding in findings if finding.is_damage)


async def _check_session(
    writer: AsyncCheckpointWriter[CheckpointData], session_id: str, tally: SessionTally
) -> None:
    newest = await _loaded_step(writer, session_id, None, tally.script)
    tally.verified = 0
    for step, checkpoint_id in tally.acknowledged.items():
        stored = await _loaded_step(writer, session_id, checkpoint_id, tally.script)
        if stored == step and newest >= step:
            tally.verified += 1
        else:
            tally.lost.add(step)
    tally.is_complete = newest == tally.steps
    tally.newest_file = next((meta.path for meta in await writer.list(session_id)), None)


async def _loaded_step(
    writer: AsyncCheckpointWriter[CheckpointData],
    session_id: str,
    checkpoint_id: str | None,
    script: Conversation,
) -> int:
    """Return the step of a stored checkpoint; 0 when it is missing or not what was saved."""
    try:
        stored = await writer.load(session_id, checkpoint_id)
    except CheckpointCorruptError:
        return 0
    if stored is None or stored.messages != script.messages[: stored.iteration]:
        return 0
    return stored.iteration


class JsonOracle(Oracle):
    """
    Judges `JsonFiles`, where a session is what its one file has.

    Args:
        scripts: the conversation of each session.

    Attributes:
        torn: how many files nobody could read any more, over all checks.
    """

    def __init__(self, scripts: Mapping[str, Conversation]) -> None:
        super().__init__(scripts)
        self.torn = 0

    async def check(self, directory: Path) -> tuple[Finding, ...]:
        """Compare the files with what was acknowledged."""
        files = JsonFiles(directory)
        for session_id, tally in self.tallies.items():
            newest = await files.load(session_id)
            step = newest.iteration if newest else 0
            self.torn += await files.is_torn(session_id)
            lost = {acknowledged for acknowledged in tally.acknowledged if acknowledged > step}
            tally.lost |= lost
            tally.verified = len(tally.acknowledged) - len(lost)
        return ()

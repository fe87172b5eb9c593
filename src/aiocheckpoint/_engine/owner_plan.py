"""Who will own which session after the changes that are planned."""

from __future__ import annotations

from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.changes import Disown, Own
from aiocheckpoint._format.entries import Owned
from aiocheckpoint.errors import SessionOwnedError


class OwnerPlan:
    """
    Who will own which session after what is planned.

    Args:
        view: the committed state.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._planned: dict[str, Owned] = {}

    def is_owned(self, session: str, token: int) -> bool:
        """Tell whether a session will have the owner with that token."""
        owned = self._owner(session)
        return owned is not None and owned.token == token

    def own(self, own: Own, planned: int) -> Owned:
        """
        Plan that a session has an owner; its token is where in the journal this is said.

        So it grows for ever, without being kept anywhere.

        Args:
            own: the wish.
            planned: how many entries are planned before it.

        Raises:
            SessionOwnedError: another process owns it, and lives.
        """
        owned = self._owner(own.session)
        if owned is not None and owned.process != own.process and owned.process not in own.dead:
            raise SessionOwnedError(own.session_id, 0.0, own.told.get(owned.process, ""))
        end = self._view.log.end if self._view.log else 0
        return self._enter(Owned(own.session, end + planned, own.process))  # a frame is longer

    def disown(self, disown: Disown) -> Owned | None:
        """Plan that a session has no owner; None when it has another by now."""
        if not self.is_owned(disown.session, disown.token):
            return None
        return self._enter(Owned(disown.session, disown.token))

    def _owner(self, session: str) -> Owned | None:
        owned = self._planned.get(session)
        if owned is None:
            return self._view.owner(session)
        return owned if owned.process else None

    def _enter(self, owned: Owned) -> Owned:
        self._planned[owned.session] = owned
        return owned

"""Who will own which session after the changes that are planned."""

from __future__ import annotations

from aiocheckpoint._disk.files import now_microseconds
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

    def own(self, own: Own) -> Owned:
        """
        Plan that a session has an owner.

        Its token is greater than all of the root before, and at least the milliseconds since 1970:
        a root that was restored or copied does not know which were given before.

        Args:
            own: the wish.

        Raises:
            SessionOwnedError: another process owns it, and lives.
        """
        owned = self._owner(own.session)
        if owned is not None and owned.process != own.process and owned.process not in own.dead:
            raise SessionOwnedError(own.session_id, 0.0, own.told.get(owned.process, ""))
        planned = (owned.token for owned in self._planned.values())
        greatest = max([self._view.greatest_token(), *planned])
        token = max(greatest + 1, now_microseconds() // 1000)
        return self._enter(Owned(own.session, token, own.process))

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

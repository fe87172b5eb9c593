"""What may be seen after a power cut, told from the lines of the processes before it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tests.promises.power_cut_process import Began, Failed, Line, Returned

View: TypeAlias = Mapping[str, Sequence[tuple[str, int]]]
"""By session: ids and serials, newest first."""

_Key: TypeAlias = tuple[str, str]
_Values: TypeAlias = frozenset[int | None]
_ABSENT: _Values = frozenset({None})


class _Call(NamedTuple):
    began: Began
    returned: Returned | None


class Oracle:
    """
    Knows what each checkpoint may be: its last acknowledged state, or that of a call under way.

    One task at a time makes calls about a checkpoint. Where it is handed on, the next begins only
    after it has seen what the last one did, so the order of beginnings is that of the effects.

    Attributes:
        acknowledged: how many calls were.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._allowed: dict[_Key, _Values] = {}
        self._made: dict[int, tuple[float, float]] = {}
        self._wholes: list[list[_Key]] = []

    def lived(self, lines: Iterable[Line]) -> list[str]:
        """Take in what processes did until they died; return what was wrong with it."""
        wrong: list[str] = []
        self._wholes = []
        for call in sorted(_calls(lines), key=lambda call: call.began.at):
            self.acknowledged += call.returned is not None
            match call.began.kind:
                case "save":
                    self._save(call)
                case "delete" | "drop":
                    wrong += self._remove(call)
        return wrong

    def _save(self, call: _Call) -> None:
        began, returned = call
        self._made[began.serial] = (began.at, returned.at if returned else math.inf)
        key = (began.session, began.ids[0])
        before: _Values = frozenset() if returned else self._allowed.get(key, _ABSENT)
        self._allowed[key] = before | {began.serial}

    def _remove(self, call: _Call) -> list[str]:
        began, returned = call
        keys = [(began.session, i) for i in began.ids] or [
            key for key in self._allowed if key[0] == began.session
        ]
        before = {key: self._allowed.get(key, _ABSENT) for key in keys}
        for key in keys:
            self._allowed[key] = _ABSENT if returned else before[key] | _ABSENT
        if returned is None:
            self._wholes.append([key for key in keys if None not in before[key]])
            return []
        least = sum(None not in values for values in before.values())
        most = sum(values != _ABSENT for values in before.values())
        if least <= returned.count <= most:
            return []
        return [f"{began.kind} of {keys} removed {returned.count}, not {least} to {most}"]

    def saw(self, view: View) -> list[str]:
        """Compare what was seen with what may be; from now on it may not change by itself."""
        seen = {(session, i): serial for session, found in view.items() for i, serial in found}
        wrong = [
            f"{key} is {seen.get(key)}, may be {sorted(map(str, allowed))}"
            for key in sorted({*seen, *self._allowed})
            if seen.get(key) not in (allowed := self._allowed.get(key, _ABSENT))
        ]
        wrong += [
            f"of what was removed at once a part is there: {whole}"
            for whole in self._wholes
            if len({key in seen for key in whole}) > 1
        ]
        for session, found in view.items():
            wrong += self._out_of_order(session, [serial for _, serial in found])
        self._allowed = {key: frozenset({serial}) for key, serial in seen.items()}
        self._wholes = []
        return wrong

    def _out_of_order(self, session: str, newest_first: Sequence[int]) -> list[str]:
        return [
            f"in {session} save {newer} is listed as newer than {older}, which began after its end"
            for at, newer in enumerate(newest_first)
            for older in newest_first[at + 1 :]
            if newer in self._made
            and older in self._made
            and self._made[newer][1] < self._made[older][0]
        ]


def _calls(lines: Iterable[Line]) -> list[_Call]:
    """Put lines together; those of one task are in order."""
    of_tasks: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        of_tasks[line.task].append(line)
    return [call for of_task in of_tasks.values() for call in _calls_of_task(of_task)]


def _calls_of_task(lines: Sequence[Line]) -> Iterable[_Call]:
    under_way: Began | None = None
    for line in lines:
        match line:
            case Began():
                assert under_way is None
                under_way = line
            case Returned():
                assert under_way is not None
                yield _Call(under_way, line)
                under_way = None
            case Failed():  # what it tried may have had its effect, or not
                break
    if under_way is not None:
        yield _Call(under_way, None)

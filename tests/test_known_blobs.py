"""Promises of what is known of blobs in use, beside reachability told anew each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint._disk.known_blobs import BlobUses, KnownBlobs

_COUNT = 8


@st.composite
def _graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Return blobs, each of which names some of those before it, one of them perhaps twice."""
    graph: dict[str, tuple[str, ...]] = {}
    for number in range(_COUNT):
        earlier = st.sampled_from([*graph]) if graph else st.nothing()
        graph[f"{number}"] = tuple(draw(st.lists(earlier, max_size=3))) if graph else ()
    return graph


_choices = st.integers(0, _COUNT - 1).map(str)
_files = st.lists(st.lists(_choices, max_size=3, unique=True).map(tuple), max_size=5)


def _reached(named: list[tuple[str, ...]], graph: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    waiting = [digest for names in named for digest in names]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += graph[digest]
    return found


class TestUses:
    @given(_graphs(), _files, _files, st.data())
    def test_what_nothing_leads_to_is_unused(
        self,
        graph: dict[str, tuple[str, ...]],
        before: list[tuple[str, ...]],
        planned: list[tuple[str, ...]],
        data: st.DataObject,
    ) -> None:
        """Whatever files come and go, in whatever order blobs become known."""
        known = KnownBlobs()
        order = data.draw(st.permutations([*graph]))
        early = data.draw(st.integers(0, _COUNT))
        for digest in order[:early]:
            known.store(digest, graph[digest])
        for number, digests in enumerate(before):
            known.enter(f"{number}", digests)
        for digest in order[early:]:
            known.store(digest, graph[digest])
        gone = data.draw(st.sets(st.integers(0, len(before) - 1))) if before else set()
        for number in gone:
            known.forget(f"{number}")
        left = [digests for number, digests in enumerate(before) if number not in gone]
        assert known.all_unused() == graph.keys() - _reached(left, graph)
        assert known.users.keys() == _reached(left, graph)

        plan = BlobUses(known)
        for digests in planned:
            plan.use(digests)
        dropped = data.draw(st.sets(st.integers(0, len(left) - 1))) if left else set()
        for number in dropped:
            plan.release(left[number])
        kept = [digests for number, digests in enumerate(left) if number not in dropped]
        assert plan.all_unused() == graph.keys() - _reached(kept + planned, graph)
        assert known.all_unused() == graph.keys() - _reached(left, graph)

    @given(_graphs(), _files, _choices)
    def test_nothing_is_unused_while_a_blob_in_use_is_unread(
        self, graph: dict[str, tuple[str, ...]], files: list[tuple[str, ...]], unread: str
    ) -> None:
        """A blob that nobody has looked into may name any other."""
        known = KnownBlobs()
        for digest in graph.keys() - {unread}:
            known.store(digest, graph[digest])
        for number, digests in enumerate(files):
            known.enter(f"{number}", digests)
        assert (known.all_unused() is None) == (unread in _reached(files, graph))
        known.learn(unread, graph[unread])
        assert known.all_unused() == graph.keys() - _reached(files, graph) - {unread}

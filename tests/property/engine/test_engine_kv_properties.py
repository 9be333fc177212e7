"""The page book against a naive model: whatever is opened, grown, rolled back and closed, no page has two owners."""

from __future__ import annotations

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from node.engine.kv import PAGE_TOKENS, KvBook, Move, PagePool
from protocol.errors import MalformedError, RefusedError

PAGES = 12


def pages_for(tokens: int) -> int:
    return max(1, -(-tokens // PAGE_TOKENS))


class Book(RuleBasedStateMachine):
    """Each session is a list of what was written; the store is one list of slots."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.book = KvBook(PAGES * PAGE_TOKENS + 5)
        self.store: list[object] = [None] * (PAGES * PAGE_TOKENS)
        self.written: dict[bytes, list[object]] = {}
        self.room: dict[bytes, int] = {}
        self.paged: dict[bytes, int] = {}
        """Pages of those that have not one for each position, and one at least."""
        self.count = 0

    def reserved_pages(self) -> int:
        return sum(map(self.pages_of, self.room))

    def pages_of(self, session: bytes) -> int:
        return self.paged.get(session, pages_for(self.room[session]))

    def least_room(self, session: bytes) -> int:
        """Positions that may be written."""
        return min(self.room[session], self.pages_of(session) * PAGE_TOKENS)

    @rule(target=sessions, tokens=st.integers(1, 5 * PAGE_TOKENS))
    def reserve(self, tokens: int):
        self.count += 1
        session = self.count.to_bytes(2, "big")
        if self.reserved_pages() + -(-tokens // PAGE_TOKENS) > PAGES:
            free = self.book.free
            with pytest.raises(RefusedError) as refused:
                self.book.reserve(session, tokens)
            assert refused.value.code == "no-room"
            assert self.book.free == free
            return multiple()
        self.book.reserve(session, tokens)
        self.written[session], self.room[session] = [], tokens
        return session

    @rule(target=sessions, tokens=st.integers(1, 5 * PAGE_TOKENS), first=st.integers(0, 5 * PAGE_TOKENS))
    def reserve_in_part(self, tokens: int, first: int):
        if pages_for(min(first, tokens)) > PAGES - self.reserved_pages():
            return multiple()
        self.count += 1
        session = self.count.to_bytes(2, "big")
        self.book.reserve(session, tokens, first)
        self.written[session], self.room[session] = [], tokens
        self.paged[session] = pages_for(min(first, tokens))
        return session

    @rule(session=sessions, tokens=st.integers(0, 6 * PAGE_TOKENS))
    def grow(self, session: bytes, tokens: int) -> None:
        wanted, had = -(-min(tokens, self.room[session]) // PAGE_TOKENS), self.pages_of(session)
        if wanted - had > PAGES - self.reserved_pages():
            with pytest.raises(RefusedError) as refused:
                self.book.grow(session, tokens)
            assert refused.value.code == "no-room"
            return
        move = self.book.grow(session, tokens) or Move([], [])
        for slot, what in zip(move.target, [self.store[slot] for slot in move.source], strict=True):
            self.store[slot] = what
        self.paged[session] = max(had, wanted)

    @rule(session=sessions)
    def empty(self, session: bytes) -> None:
        self.book.empty(session)
        self.written[session], self.paged[session] = [], 0

    @rule(session=sessions)
    def reserve_again(self, session: bytes) -> None:
        with pytest.raises(RefusedError) as refused:
            self.book.reserve(session, 1)
        assert refused.value.code == "session-open"

    @rule(session=sessions, length=st.integers(0, 40))
    def write(self, session: bytes, length: int) -> None:
        position = len(self.written[session])
        if not 1 <= length <= self.least_room(session) - position:
            with pytest.raises(MalformedError):
                self.book.check(session, position, length)
            return
        self.book.check(session, position, length)
        segment = self.book.segment(session, 0, length)
        for at, slot in enumerate(segment.slots(segment.position, segment.end), start=position):
            self.store[slot] = (session, at)
            self.written[session].append((session, at))
        self.book.advance(session, length)

    @rule(session=sessions, off=st.integers(1, 3))
    def out_of_order(self, session: bytes, off: int) -> None:
        for position in (len(self.written[session]) + off, -off):
            with pytest.raises(MalformedError) as malformed:
                self.book.check(session, position, 1)
            assert malformed.value.code == "out-of-order"

    @rule(session=sessions, data=st.data())
    def back_in_order(self, session: bytes, data: st.DataObject) -> None:
        if (most := min(len(self.written[session]), self.least_room(session) - 1)) > 0:
            self.book.check(session, data.draw(st.integers(0, most)), 1)

    @rule(session=sessions, length=st.integers(0, 80))
    def trim(self, session: bytes, length: int) -> None:
        if length > len(self.written[session]):
            with pytest.raises(MalformedError):
                self.book.trim(session, length)
            return
        pages = min(pages_for(length), self.pages_of(session))
        assert self.book.trim(session, length) == pages * PAGE_TOKENS
        del self.written[session][length:]
        self.room[session], self.paged[session] = length, pages

    @rule(target=sessions, old=consumes(sessions), length=st.integers(0, 40), more=st.integers(0, 3 * PAGE_TOKENS))
    def copy(self, old: bytes, length: int, more: int):
        """As `adopt`, and the old one stays as it was."""
        self.count += 1
        new, length = self.count.to_bytes(2, "big"), min(length, len(self.written[old]))
        tokens = max(1, length + more)
        if pages_for(tokens) > PAGES - self.reserved_pages():
            with pytest.raises(RefusedError) as refused:
                self.book.adopt(old, new, length, tokens, keep=True)
            assert refused.value.code == "no-room"
            return old
        move = self.book.adopt(old, new, length, tokens, keep=True) or Move([], [])
        for slot, what in zip(move.target, [self.store[slot] for slot in move.source], strict=True):
            self.store[slot] = what
        self.written[new], self.room[new] = self.written[old][:length], tokens
        return multiple(old, new)

    @rule(target=sessions, old=consumes(sessions), length=st.integers(0, 40), more=st.integers(0, 3 * PAGE_TOKENS))
    def adopt(self, old: bytes, length: int, more: int):
        self.count += 1
        new, length = self.count.to_bytes(2, "big"), min(length, len(self.written[old]))
        tokens = max(1, length + more)
        if pages_for(tokens) - self.pages_of(old) > PAGES - self.reserved_pages():
            with pytest.raises(RefusedError) as refused:
                self.book.adopt(old, new, length, tokens)
            assert refused.value.code == "no-room"
            return old
        move = self.book.adopt(old, new, length, tokens) or Move([], [])
        for slot, what in zip(move.target, [self.store[slot] for slot in move.source], strict=True):
            self.store[slot] = what
        self.written[new], self.room[new] = self.written.pop(old)[:length], tokens
        del self.room[old]
        self.paged.pop(old, None)
        return new

    @rule(session=sessions, length=st.integers(-1, 80))
    def rollback(self, session: bytes, length: int) -> None:
        if not 0 <= length <= len(self.written[session]):
            with pytest.raises(MalformedError):
                self.book.rollback(session, length)
            return
        self.book.rollback(session, length)
        del self.written[session][length:]

    @rule(session=consumes(sessions))
    def release(self, session: bytes) -> None:
        self.book.release(session)
        self.book.release(session)  # again is ignored
        del self.written[session], self.room[session]
        self.paged.pop(session, None)
        with pytest.raises(MalformedError) as malformed:
            self.book.length(session)
        assert malformed.value.code == "unknown-session"

    @invariant()
    def everything_written_is_still_there(self) -> None:
        assert self.book.capacity == PAGES * PAGE_TOKENS
        assert self.book.free == (PAGES - self.reserved_pages()) * PAGE_TOKENS
        for session, written in self.written.items():
            assert self.book.length(session) == len(written)
            segment = self.book.segment(session, 0, 0)
            slots = segment.slots(0, len(written))
            assert [self.store[slot] for slot in slots] == written
            if written and segment.contiguous:
                first = segment.pages[0] * PAGE_TOKENS
                assert slots == list(range(first, first + len(written)))


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=at_length(60), stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data())
def test_pages_given_back_in_any_order_join_to_one_run(counts: list[int], data: st.DataObject) -> None:
    pool = PagePool(sum(counts))
    held = [pool.take(count) for count in counts]
    assert sorted(page for pages in held for page in pages or ()) == list(range(sum(counts)))
    assert pool.take(1) is None
    for pages in data.draw(st.permutations(held)):
        pool.give(pages or ())
    assert pool.take(sum(counts)) == tuple(range(sum(counts)))


def test_pages_that_grow_stay_where_they_are_or_move_to_one_run() -> None:
    pool = PagePool(10)
    first, second = pool.take(2), pool.take(2)
    assert pool.extend(second, 4) == (2, 3, 4, 5)
    assert pool.extend(first, 4) == (6, 7, 8, 9)  # others lie behind it, so it moves
    assert pool.extend((6, 7, 8, 9), 1) == (6,)
    assert pool.extend((6,), 7) is None
    assert pool.free == 5
    assert pool.extend((2, 3, 4, 5), 7) == (2, 3, 4, 5, 7, 8, 9)  # no run holds all
    assert pool.take(2) == (0, 1)


def test_the_tightest_run_is_taken_and_scattered_pages_only_when_no_run_fits() -> None:
    pool = PagePool(10)
    first, second, third, _ = pool.take(3), pool.take(1), pool.take(2), pool.take(4)
    pool.give(first)
    pool.give(third)
    assert pool.take(2) == (4, 5)
    pool.give((4, 5))
    assert pool.take(4) == (0, 1, 2, 4)
    assert pool.take(1) == (5,)
    pool.give(second)
    with pytest.raises(ValueError, match="twice"):
        pool.give(second)

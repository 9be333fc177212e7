"""Nonces that were fixed before the job, and the seed that nobody can choose or know early."""

from __future__ import annotations

import hashlib

import pytest

from protocol.errors import DishonestError
from protocol.identity.ids import keccak256
from protocol.session.draws import NonceChain, check_nonce, nonces_up_to, window_seed

SECRET = bytes(range(32))
CHAIN = NonceChain(SECRET, 5)


def test_each_nonce_hashes_to_the_one_before_and_the_first_to_the_anchor() -> None:
    before = CHAIN.anchor
    for window in range(5):
        nonce = CHAIN.nonce(window)
        assert hashlib.sha256(b"joulemesh nonce\n" + nonce).digest() == before
        check_nonce(before, nonce)
        check_nonce(CHAIN.anchor, nonce, steps=window + 1)
        before = nonce
    assert before == SECRET


def test_a_nonce_of_another_chain_or_window_is_not_what_was_committed_to() -> None:
    for nonce, steps in ((NonceChain(bytes(32), 5).nonce(0), 1), (CHAIN.nonce(2), 1), (CHAIN.nonce(0), 2)):
        with pytest.raises(DishonestError, match="committed to before the job"):
            check_nonce(CHAIN.anchor, nonce, steps=steps)


def test_a_chain_has_so_many_nonces_and_no_more() -> None:
    for window in (-1, 5):
        with pytest.raises(IndexError):
            CHAIN.nonce(window)


def test_the_newest_nonce_gives_all_before_it() -> None:
    assert nonces_up_to(CHAIN.nonce(3), 4) == tuple(CHAIN.nonce(window) for window in range(4))


def test_the_representation_shows_no_nonce() -> None:
    shown = repr(CHAIN)
    assert not any(CHAIN.nonce(window).hex()[:12] in shown for window in range(5))


def test_every_part_changes_the_seed() -> None:
    session, client, legs = bytes(32), b"c" * 32, [b"a" * 32, b"b" * 32]
    seed = window_seed(session, 7, client, legs)
    said = b"joulemesh seed\n" + session + b"\0\0\0\7" + client + legs[0] + legs[1]
    assert seed == keccak256(said)
    others = [
        window_seed(b"s" * 32, 7, client, legs),
        window_seed(session, 8, client, legs),
        window_seed(session, 7, legs[0], [client, legs[1]]),
        window_seed(session, 7, client, legs[::-1]),
    ]
    assert len({seed, *others}) == 5


def test_whoever_shows_a_nonce_last_chooses_nothing() -> None:
    """The last leg knows all other nonces of the window before it shows its own: there is one that it can show."""
    known = [NonceChain(bytes([i] * 32), 9) for i in range(3)]
    mine = NonceChain(b"m" * 32, 9)
    seed = window_seed(bytes(32), 4, known[0].nonce(4), [known[1].nonce(4), mine.nonce(4)])
    for wanted in range(50):
        with pytest.raises(DishonestError):
            check_nonce(mine.anchor, keccak256(bytes([wanted])), steps=5)
    assert seed == window_seed(bytes(32), 4, known[0].nonce(4), [known[1].nonce(4), mine.nonce(4)])


def test_a_nonce_of_the_future_does_not_follow_from_those_shown() -> None:
    """All that a coalition sees of an honest leg's chain is hashes of what comes."""
    seen = {CHAIN.anchor, *(CHAIN.nonce(window) for window in range(3))}
    assert CHAIN.nonce(3) not in seen
    assert not any(hashlib.sha256(b"joulemesh nonce\n" + value).digest() == CHAIN.nonce(3) for value in seen)

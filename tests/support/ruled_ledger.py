"""The settlement rules over a dictionary, with easy numbers: for tests of one rule after another."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    deposit,
    genesis,
    make_session,
    open_session,
)

from protocol.errors import MalformedError, RuleError, SignatureError
from protocol.identity.signing import SigningKey
from protocol.session.messages import session_id
from protocol.settlement import Books, apply, ledger_domain, replay
from protocol.settlement.operations import Action, LogEntry, SignedOp, sign_op

__all__ = ["CAP", "DOMAIN", "EXPIRY", "FEE", "GRACE_S", "SESSION", "VERIFIER_KEY", "RuledLedger"]

VERIFIER_KEY = "test+00000000+AA=="
DOMAIN = ledger_domain(VERIFIER_KEY)
GRACE_S, FEE, CAP = 50, 3, 30
SESSION = make_session(cap=CAP)
EXPIRY = SESSION.expiry


class RuledLedger:
    """The rules over a dictionary: begun, with money for everybody, and with one session open."""

    def __init__(self, **rules: Any) -> None:
        self.books, self.now, self.log = Books(), NOW, list[LogEntry]()
        self.do(OPERATOR, genesis(VERIFIER_KEY, **rules))
        for key in (CLIENT, STRANGER, *PROVIDERS):
            self.do(OPERATOR, deposit(key, MILLION))
        self.do(CLIENT, open_session(SESSION))

    def do(self, key: SigningKey, action: Action, *, nonce: int | None = None) -> None:
        number = self.books.account(key.address).nonce + 1 if nonce is None else nonce
        self.take(sign_op(DOMAIN, key, action.replace(actor=key.address, nonce=number)))

    def take(self, signed: SignedOp) -> None:
        outcome = apply(self.books, DOMAIN, signed, self.now)
        self.books.record(outcome)
        self.log.append(outcome.entry)

    def free(self, key: SigningKey) -> int:
        return self.books.account(key.address).free

    def settled(self) -> tuple[int, ...]:
        return self.books.sessions[session_id(SESSION)].settled

    def refuses(self, key: SigningKey, action: Action, *, nonce: int | None = None) -> str:
        """The code of the rule that forbids it; the books stay as they were."""
        before = dict(self.books.accounts), dict(self.books.sessions)
        with pytest.raises((RuleError, SignatureError, MalformedError)) as refused:
            self.do(key, action, nonce=nonce)
        assert (self.books.accounts, self.books.sessions) == before
        return refused.value.code

    def replayed(self) -> Books:
        """The books that somebody has who replays the log."""
        again = Books()
        for entry in self.log:
            replay(again, DOMAIN, entry)
        return again

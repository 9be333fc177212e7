"""A ledger on paper: the real rules over dictionaries and a Merkle tree in memory, with real checkpoints and proofs."""

from __future__ import annotations

import copy

from protocol.encoding.codec import encode
from protocol.identity.eip712 import Domain
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import Frontier, Node, inclusion_proof, leaf_hash
from protocol.log.note import NoteKey, VerifierKey
from protocol.settlement import Books, apply, ledger_domain
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import Action, Deposit, Genesis, LogEntry, sign_op

__all__ = ["FEE", "GRACE_S", "PaperLedger"]

GRACE_S = 100
FEE = 1


class PaperLedger:
    """Takes operations at once, and proves whatever it has written down.

    Args:
        now: unix seconds; whoever uses it moves the clock.
    """

    def __init__(self, now: int, *, name: str = "ledger.example/paper") -> None:
        self.now = now
        self.note_key = NoteKey(name, b"\x07" * 32)
        self.operator = SigningKey(b"\x0f" * 32)
        self.books = Books()
        self.entries: list[LogEntry] = []
        self._tree = Frontier()
        self._nodes: dict[Node, bytes] = {}
        self.act(
            self.operator,
            Genesis,
            verifier_key=self.verifier_key,
            grace=GRACE_S,
            faucet_limit=0,
            fee=FEE,
            unbonding=604_800,
            notice=604_800,
            bond_multiple=0,
        )

    @property
    def verifier(self) -> VerifierKey:
        """What its checkpoints are verified with."""
        return self.note_key.verifier

    @property
    def verifier_key(self) -> str:
        """The same as text."""
        return str(self.verifier)

    @property
    def domain(self) -> Domain:
        """Where its signatures count."""
        return ledger_domain(self.verifier_key)

    def act(self, key: SigningKey, action: type[Action], **fields: object) -> int:
        """Take an operation; its place in the log. Raises what the rules raise."""
        nonce = self.books.account(key.address).nonce + 1
        made = action(actor=key.address, nonce=nonce, **fields)  # type: ignore[call-arg]
        outcome = apply(self.books, self.domain, sign_op(self.domain, key, made), self.now)
        self.books.record(outcome)
        return self.write(outcome.entry)

    def fund(self, address: bytes, amount: int) -> None:
        """Credit micro-units."""
        self.act(self.operator, Deposit, account=address, amount=amount, reference="paper")

    def write(self, entry: LogEntry) -> int:
        """Append an entry as it is, true or not; its place in the log."""
        for node, value in self._tree.append(leaf_hash(encode(entry))):
            self._nodes[node] = value
        self.entries.append(entry)
        return len(self.entries) - 1

    def evidence(self, index: int) -> bytes:
        """Proof of an entry in the log as it is now."""
        size = len(self.entries)
        proof = inclusion_proof(index, size, lambda level, at: self._nodes[level, at])
        checkpoint = sign_checkpoint(Checkpoint(self.verifier.name, size, self._tree.root), self.note_key)
        return encode(LogProof(entry=encode(self.entries[index]), index=index, proof=proof, checkpoint=checkpoint))

    def fork(self) -> PaperLedger:
        """A second log with the same beginning, under the same key: what no honest ledger has."""
        other = copy.copy(self)
        other.books = Books(self.books.rules, dict(self.books.accounts), dict(self.books.sessions))
        other.entries, other._nodes = list(self.entries), dict(self._nodes)
        other._tree = Frontier(self._tree.size, self._tree.hashes)
        return other

"""The ledger of the example jobs, in memory: entries, their proofs, and the checkpoints that these end in."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.encoding.codec import encode
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import Frontier, Node, inclusion_proof, leaf_hash
from protocol.log.note import NoteKey
from protocol.settlement import Books, apply
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import Action, Deposit, Genesis, LogEntry, sign_op
from scripts.vectors.parties import CLIENT, DOMAIN, LOG_KEY, NOW, OPERATOR

__all__ = ["GRACE_S", "Log", "Taken", "new_log", "proof_of"]

GRACE_S = 3600
FEE = 2


@dataclass(frozen=True, slots=True)
class Taken:
    """An operation that the ledger took."""

    action: Action
    entry: LogEntry
    index: int
    leaf: bytes
    checkpoint: Checkpoint
    note: bytes


@dataclass(slots=True)
class Log:
    """Takes operations one at a time; each ends in a checkpoint of its own."""

    books: Books = field(default_factory=Books)
    taken: list[Taken] = field(default_factory=list)
    tree: Frontier = field(default_factory=Frontier)
    nodes: dict[Node, bytes] = field(default_factory=dict)

    def do(self, key: SigningKey, action: Action, *, now: int) -> Taken:
        """Raises what `session.apply` does."""
        outcome = apply(self.books, DOMAIN, sign_op(DOMAIN, key, action), now)
        self.books.record(outcome)
        leaf = leaf_hash(encode(outcome.entry))
        self.nodes.update(self.tree.append(leaf))
        checkpoint = Checkpoint(LOG_KEY.verifier.name, self.tree.size, self.tree.root)
        note = sign_checkpoint(checkpoint, LOG_KEY)
        self.taken.append(Taken(action, outcome.entry, self.tree.size - 1, leaf, checkpoint, note))
        return self.taken[-1]

    def next_nonce(self, key: SigningKey) -> int:
        return self.books.account(key.address).nonce + 1

    def prove(self, taken: Taken, *, by: Taken | None = None, key: NoteKey = LOG_KEY) -> bytes:
        """Evidence of an entry, in its own checkpoint or a later one."""
        last = by or taken
        size = last.checkpoint.size
        proof = inclusion_proof(taken.index, size, lambda level, at: self.nodes[level, at])
        note = last.note if key is LOG_KEY else sign_checkpoint(last.checkpoint, key)
        return encode(proof_of(encode(taken.entry), taken.index, proof, note))


def proof_of(entry: bytes, index: int, proof: tuple[bytes, ...], note: bytes) -> LogProof:
    return LogProof(entry=entry, index=index, proof=proof, checkpoint=note)


def new_log() -> Log:
    """Begun, and with money for the client."""
    log = Log()
    genesis = Genesis(
        actor=OPERATOR.address,
        nonce=1,
        verifier_key=str(LOG_KEY.verifier),
        grace=GRACE_S,
        faucet_limit=10_000_000,
        fee=FEE,
        unbonding=604_800,
        notice=604_800,
        bond_multiple=0,
    )
    log.do(OPERATOR, genesis, now=NOW - 100)
    deposit = Deposit(actor=OPERATOR.address, nonce=2, account=CLIENT.address, amount=5_000_000, reference="faucet")
    log.do(OPERATOR, deposit, now=NOW - 90)
    return log

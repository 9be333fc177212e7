"""A settlement contract on an EVM chain, as far as it is read: the half of a venue that sends nothing.

What is read is as of the newest block that has enough others on top of it (`confirmations`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from node.ports import Clock, Taken, VenueRules
from node.settlement.deployment import ContractFacts, verify
from node.settlement.gas import Gas
from node.settlement.inclusion import with_inclusion
from node.settlement.kept import ChainFile
from node.settlement.reader import ChainReader
from node.settlement.rpc import ChainRpc
from node.settlement.sessions import Sessions
from node.venue_address import VenueAddress, shown_url
from protocol.chain.chain_evidence import ChainProof, check_opening_call
from protocol.encoding.codec import decode, encode
from protocol.errors import (
    DishonestError,
    MalformedError,
    RefusedError,
    UnreachableError,
)
from protocol.identity.eip712 import Domain
from protocol.session.messages import Session, session_id
from protocol.settlement import Account, SessionRecord

__all__ = ["ChainSettings", "EvmView", "OneHistory", "named"]

OPEN_S = 8.0
"""Seconds in which one's own node of the chain is waited for, where a client's has seen more."""
MOST_AHEAD = 20
"""Blocks that a client's node may be ahead of one's own."""
MOST_WAITING = 32
"""Sessions that are waited for at once."""
LAG_LOOKS = 8
"""Looks at a node that has shown more blocks before: there may be several behind one address."""
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """How a chain is dealt with."""

    confirmations: int = 2
    """Blocks on top of the one that holds something, until it counts."""
    most_gas_price: int = 200 * 10**9
    """Wei that a gas may cost."""
    coin_micro: int = 0
    """Micro-units that one coin of the chain is worth; 0 where gas is not weighed against what an operation brings."""
    patience_s: float = 180.0
    """Seconds until a transaction that no block holds is left to itself."""
    stuck_s: float = 30
    """Seconds without a block until more is paid for gas."""


class OneHistory:
    """Of a venue whose histories nobody here compares: what its node shows is taken to be the chain's."""

    known: None = None

    def require_none(self) -> None:
        """There is no proof against it."""

    async def found(self) -> NoReturn:
        """Never."""
        await asyncio.Event().wait()
        raise RuntimeError("nobody sets this event")


class EvmView:
    """Use as an async context manager, or call `disconnect`.

    Args:
        folder: where what is kept of chains lies; several processes share it.

    Every method raises UnreachableError where the chain's node does not answer, RuleError where the contract refuses,
    and PeerErrors where the node says what cannot be.
    """

    def __init__(
        self,
        address: VenueAddress,
        *,
        folder: Path,
        clock: Clock,
        settings: ChainSettings | None = None,
    ) -> None:
        self._settings = settings or ChainSettings()
        self._contract = address.contract
        self._url = address.url
        self._rpc = ChainRpc(address.url)
        self._file = ChainFile(folder / f"{address.contract.chain_id}.sqlite")
        self._gas = Gas(self._rpc, most=self._settings.most_gas_price, coin_micro=self._settings.coin_micro)
        self._reader = ChainReader(self._rpc, address.contract)
        self._sessions = Sessions(self._reader, address.contract, self._file, clock)
        self._facts: ContractFacts | None = None
        self._connecting = asyncio.Lock()
        self._floor = 0
        """The newest block that was relied on: nothing older is read after it."""
        self._waiting = 0
        """Sessions that are waited for."""
        self.forks = OneHistory()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connections and the file."""
        await self._rpc.close()
        self._file.close()

    # What it is

    @property
    def url(self) -> str:
        """Where its chain's node is, for people."""
        return shown_url(self._url)

    @property
    def domain(self) -> Domain:
        """What typed signatures for this contract carry."""
        return self._contract.domain

    @property
    def verifier_key(self) -> str:
        """What names it in a receipt."""
        return str(self._contract)

    async def connect(self) -> ContractFacts:
        """Hold the chain and the code at the address against what they should be, once. Raises DishonestError."""
        async with self._connecting:
            if self._facts is None:
                facts = await verify(self._rpc, self._contract)
                self._file.meet((await self._reader.block(0)).hash)
                self._facts = facts
            return self._facts

    async def rules(self) -> VenueRules:
        """What the contract fixed for good, and what gas costs now."""
        facts = await self.connect()
        return VenueRules(grace_s=facts.grace_s, fee=0, gas=await self._gas.cost_micro())

    async def require_witnessed(self) -> None:
        """A chain has no witnesses: its blocks are taken as its node shows them."""
        await self.connect()

    async def peers(self) -> tuple[str, ...]:
        """Multiaddrs of peers to begin with: a contract knows of none. Raises where its chain's node is away."""
        await self._final()
        return ()

    async def offers(self) -> list[bytes]:
        """Offers that the venue shows: none."""
        return []

    async def providers(self) -> Mapping[bytes, int]:
        """Who was paid here, as the venue lists them: nobody."""
        return {}

    def last_seen(self, _address: bytes) -> Account | None:
        """An account as it was last seen, without asking: nothing is remembered here."""
        return None

    # Reading

    async def _final(self) -> int:
        """The newest block that counts."""
        await self.connect()
        for left in reversed(range(LAG_LOOKS)):
            head = await self._reader.head()
            if head >= self._floor or not left:
                break
            await asyncio.sleep(_LOOK_S)
        # A head that stays behind is that of a reorganisation.
        self._floor = min(head, max(self._floor, head - self._settings.confirmations, 0))
        return self._floor

    async def account(self, address: bytes) -> Account:
        """An account as it stands; its nonce is the number of its transactions on the chain."""
        return await self._reader.account(address, await self._final())

    async def session(self, session: bytes) -> SessionRecord | None:
        """A session as it stands; None where it was never opened, or is over and forgotten."""
        return await self._sessions.at(session, await self._final())

    async def latest(self, session: bytes) -> tuple[SessionRecord, Taken] | None:
        """A session as it stands, and the last operation that changed it; nobody's where the node shows no events."""
        block = await self._final()
        record = await self._sessions.at(session, block)
        if record is None:
            return None
        found = await self._sessions.last_operation(session, block)
        if found is None:
            return record, Taken(place="", actor=b"", sessions=())
        event, shown = found
        if shown is None:
            sender = (await self._reader.transaction(event.transaction)).sender
            return record, Taken(place=named(event.transaction), actor=sender, sessions=(session,))
        return record, _taken(shown.transaction, shown.call.action.actor, shown.call.after)

    async def evidence(self, session: bytes) -> bytes:
        """Evidence of the last operation that changed a session, once that is final: who was refused since another was
        quicker asks for it before. Raises RefusedError where it was never opened, or where nobody can read that
        operation; UnreachableError where it does not become final in time.
        """
        await self.connect()
        newest = await self._reader.head()
        give_up = time.monotonic() + self._settings.patience_s
        while (final := await self._final()) < newest and time.monotonic() < give_up:
            if await self._sessions.same_operation(session, final, newest):
                break
            await asyncio.sleep(_LOOK_S)
        found = await self._sessions.last_operation(session, final)
        if found is None or found[1] is None:
            raise RefusedError("no such session on this contract", code="unknown-session")
        return encode(found[1].proof)

    async def whole(self, evidence: bytes) -> bytes:
        """Evidence that this venue has given, with what shows that its block holds it, if the node shows that."""
        return encode(await with_inclusion(self._rpc, self._contract, decode(evidence, ChainProof)))

    def taken(self, evidence: bytes) -> Taken:
        """What evidence that this venue has just given is of."""
        shown = self._sessions.read(decode(evidence, ChainProof))
        if shown is None:
            raise MalformedError("evidence of another contract")
        return _taken(shown.transaction, shown.call.action.actor, shown.call.after)

    def shown(self, session: Session, evidence: bytes) -> SessionRecord | None:
        """A session as the operation left it that this venue has just given evidence of."""
        found = self._sessions.read(decode(evidence, ChainProof))
        return None if found is None else found.call.of(session_id(session))

    async def check_opened(self, session: Session, evidence: bytes) -> None:
        """That a session is open here: the evidence shows how it was opened, and one's own node that it is.

        That node is waited for where the client's has seen more blocks. Raises PeerError.
        """
        block = check_opening_call(evidence, session, self._contract).proof.block
        try:
            is_open = await self._is_open(session, block)
        except UnreachableError:
            raise RefusedError(
                "this node cannot ask the chain now whether the session is open", code="busy", retry_s=15
            ) from None
        if not is_open:
            raise DishonestError("the session is not open on the chain, as this node sees it")
        self._sessions.remember(session)

    async def _is_open(self, session: Session, block: int) -> bool | None:
        """Whether a session is open, which is waited for only where its block is still to come here; None where it is
        not known. RefusedError where too many wait: what a stranger says of a block costs nothing.
        """
        give_up = time.monotonic() + OPEN_S
        final = await self._final()
        is_open = await self._sessions.is_open(session, final)
        if is_open is not None or not final < block <= final + self._settings.confirmations + MOST_AHEAD:
            return is_open
        if self._waiting >= MOST_WAITING:
            raise RefusedError("too many sessions are waited for that this node's chain does not show", code="busy")
        self._waiting += 1
        try:
            while is_open is None and final < block and time.monotonic() < give_up:
                await asyncio.sleep(_LOOK_S)
                final = await self._final()
                is_open = await self._sessions.is_open(session, final)
            return is_open
        finally:
            self._waiting -= 1


def named(transaction: bytes) -> str:
    """A transaction's hash for people."""
    return "0x" + transaction.hex()


def _taken(transaction: bytes, actor: bytes, after: Sequence[SessionRecord]) -> Taken:
    return Taken(place=named(transaction), actor=actor, sessions=tuple(session_id(each.session) for each in after))

"""Which orders a node takes: the checks in order of cost, and the signed answer to each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.events import Events, JobBegun, OrderRefused
from node.pipeline.redeem import Redeemer
from node.pipeline.vouchers import StoredVoucher
from node.ports import Clock, Settlement
from protocol.eip712 import sign_typed
from protocol.errors import PeerError, RefusedError, StaleError, UnreachableError
from protocol.ids import BlockSpan, ModelManifest, keccak256
from protocol.messages import Discharge, session_id
from protocol.order import Acceptance, JobOrder, Refusal, check_order
from protocol.signing import SigningKey, open_envelope, seal

__all__ = ["Admission", "ProviderLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """What a provider puts at risk."""

    max_sessions: int = 64
    """Jobs at once."""
    max_window: int = 64
    """Generated tokens that it serves unpaid."""
    max_chunk: int = 512
    """Prompt tokens in one prepaid chunk; also the most rows in one pass."""
    idle_s: float = 30.0
    """Seconds without a frame after which a job is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Answers orders for one span of one model.

    A session that was refused is remembered like one that was served: its discharge is out, so it must never be served.
    """

    key: SigningKey
    manifest: ModelManifest
    span: BlockSpan
    settlement: Settlement
    redeemer: Redeemer
    suits: Callable[[JobOrder], None]
    """Raises RefusedError where the order's policy or price does not suit this node."""
    begin: Callable[[JobOrder], Awaitable[None]]
    """Reserves what the job needs. Raises RefusedError where there is no room or no way on."""
    limits: ProviderLimits
    clock: Clock
    events: Events

    async def answer(self, _peer: bytes, data: bytes) -> bytes:
        """A sealed `Acceptance` or `Refusal` for a sealed `JobOrder`.

        Which peer brings it does not matter: the seal says whose it is, and only that client can attach to the job.

        Raises PeerError where there is no order to answer: malformed, stale, not its client's, or not on the ledger.
        """
        order, signer = open_envelope(data, JobOrder)
        me, venue = self.key.public_key, self.settlement.domain.separator
        check_order(order, signer, me=me, venue=venue, manifest=self.manifest, now=self.clock())
        session = session_id(order.session)
        self._require_new(session)
        await self._require_open(session)
        self._require_new(session)  # once more: the ledger took its time, and the next line claims the session
        # On disk before any answer: whatever we sign next, this session is not taken a second time.
        await self.redeemer.remember(session, StoredVoucher(session=order.session, opened_at=self.clock(), pay=None))
        try:
            self._check_shape(order)
            self.suits(order)
            await self.begin(order)
        except (PeerError, UnreachableError) as error:
            return self._refuse(order, data, error)
        blocks = str(order.hops[order.leg].span)
        self.events(JobBegun(client=order.session.client, session=session, leg=order.leg, blocks=blocks))
        return seal(Acceptance(order=keccak256(data), session=session, leg=order.leg), self.key)

    def _refuse(self, order: JobOrder, data: bytes, error: PeerError | UnreachableError) -> bytes:
        session = session_id(order.session)
        self.redeemer.redeem_soon(session)
        self.events(OrderRefused(client=order.session.client, session=session, code=error.code, reason=error.message))
        nothing = Discharge(session=session, tokens_in=0, tokens_out=0)
        refusal = Refusal(
            order=keccak256(data),
            code=error.code,
            reason=error.message[:400],
            discharge=sign_typed(self.settlement.domain, nothing, self.key),
        )
        return seal(refusal, self.key)

    def _require_new(self, session: bytes) -> None:
        if self.redeemer.knows(session):
            raise StaleError("this session was ordered here before")

    async def _require_open(self, session: bytes) -> None:
        """Raises RefusedError for a session that is not open and unused on the ledger, in a verified checkpoint."""
        found = await self.settlement.session(session)
        if found is None:
            raise RefusedError("the session is not on the ledger", code="unknown-session")
        effect = found[1].entry.sessions[0]
        if effect.closed or effect.tokens_in or effect.tokens_out:
            raise RefusedError("the session is closed or already used", code="used-session")

    def _check_shape(self, order: JobOrder) -> None:
        span, limits = order.hops[order.leg].span, self.limits
        if not (self.span.start <= span.start and span.end <= self.span.end):
            raise RefusedError(f"this node serves blocks {self.span}, not {span}", code="span")
        if order.plan.window > limits.max_window or order.plan.chunk > limits.max_chunk:
            most = f"{limits.max_window} tokens a window and {limits.max_chunk} a chunk"
            raise RefusedError(f"this node serves at most {most}", code="window")

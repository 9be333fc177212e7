"""The operations of a test of twins, each in the words of both: built here, drawn by `twin_machine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contract_calls import as_call, claim_of, packed, receipt_call, settled_by, split
from twins import OPERATOR, PARTIES, Step, Twins

from protocol.identity.eip712 import Domain, sign_typed
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint
from protocol.market.offer import Provenance
from protocol.session.messages import (
    Discharge,
    Leg,
    Receipt,
    Session,
    SignedDischarge,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.settlement.operations import (
    Close,
    Deposit,
    Equivocation,
    Open,
    Release,
    Settle,
    Slash,
)


def another(key: SigningKey) -> SigningKey:
    return PARTIES[(PARTIES.index(key) + 1) % len(PARTIES)] if key in PARTIES else PARTIES[0]


def key_of(address: bytes) -> SigningKey:
    return next(key for key in (OPERATOR, *PARTIES) if key.address == address)


class TwinSteps:
    """Builds steps for a pair of twins, and has them done."""

    twins: Twins
    opened: list[Session]
    """All sessions that were tried to be opened."""
    salt: int = 0

    def do(self, *steps: Step, at: int = 0, wait: int = 1) -> list[str]:
        return self.twins.block(steps, at or self.twins.now + wait)

    def take(self, *steps: Step, at: int = 0) -> None:
        assert self.do(*steps, at=at) == [""] * len(steps)

    def pick(self, index: int) -> Session | None:
        """One of the last sessions; mostly one that is open, where there is any."""
        books = self.twins.books
        alive = [each for each in self.opened if (record := books.session(session_id(each))) and not record.closed]
        recent = alive[-3:] if alive and index % 4 else self.opened[-4:]
        return recent[index % len(recent)] if recent else None

    def deposited(self, key: SigningKey, amount: int) -> Step:
        def action(actor: bytes, nonce: int) -> Deposit:
            return Deposit(actor=actor, nonce=nonce, account=key.address, amount=amount, reference="")

        return Step("deposit", key, action, "deposit", lambda _: (amount,), by_operator=True)

    def simple(self, name: str, key: SigningKey, kind: Any, *values: Any, **fields: Any) -> Step:
        return Step(name, key, lambda actor, nonce: kind(actor=actor, nonce=nonce, **fields), name, lambda _: values)

    def session(self, client: SigningKey, drawn: Sequence[tuple[SigningKey, int]], expiry: int) -> Session:
        self.salt += 1
        return Session(
            client=client.address,
            expiry=expiry,
            terms=b"\x11" * 32,
            salt=self.salt.to_bytes(32, "big"),
            legs=tuple(Leg(provider=key.address, cap=cap) for key, cap in drawn),
        )

    def opening(self, session: Session, actor: SigningKey, signer: SigningKey | None = None) -> Step:
        self.twins.sessions[session_id(session)] = session
        if session not in self.opened:
            self.opened.append(session)
        if actor.address == session.client:
            return self.simple("open", actor, Open, as_call(session), session=session, signature=b"")
        signature = sign_typed(self.twins.venue.domain, session, signer or key_of(session.client))
        return Step(
            "open for",
            actor,
            lambda address, nonce: Open(actor=address, nonce=nonce, session=session, signature=signature),
            "openFor",
            lambda _: (as_call(session), split(signature)),
        )

    def voucher(self, session: Session, parts: Sequence[int], flaw: str = "") -> SignedVoucher:
        claims = [leg.cap * part // 10 for leg, part in zip(session.legs, parts, strict=False)]
        if flaw == "cap":
            claims[-1] = session.legs[-1].cap + 1
        if flaw == "short":
            claims = claims[:-1] or [0, 0]
        voucher = Voucher(
            session=session_id(session), amounts=tuple(claims), tokens_in=3, tokens_out=4, receipts=b"\x22" * 32
        )
        client = key_of(session.client)
        domain = self.twins.venue.domain
        if flaw == "domain":
            domain = replace(domain, chain_id=domain.chain_id + 1)
        return sign_voucher(domain, voucher, another(client) if flaw == "signer" else client)

    def settling(self, actor: SigningKey, *claims: tuple[Session, SignedVoucher]) -> Step:
        """Several claims; where one session comes twice, the second begins where the first has left it."""
        vouchers = tuple(signed for _, signed in claims)

        def values(_: Any) -> Sequence[Any]:
            standing: dict[bytes, bytes] = {}
            called = []
            for session, signed in claims:
                before = standing.get(signed.voucher.session) or self.twins.marks(session)
                called.append(claim_of(session, before, signed))
                standing[signed.voucher.session] = settled_by(before, signed.voucher.amounts)
            return (called,)

        def action(address: bytes, nonce: int) -> Settle:
            return Settle(actor=address, nonce=nonce, vouchers=vouchers)

        return Step("settle", actor, action, "settle", values)

    def discharge(self, session: Session, leg: int, amount: int, flaw: str = "") -> SignedDischarge:
        signer = key_of(session.legs[min(leg, len(session.legs) - 1)].provider)
        said = Discharge(session=session_id(session), leg=leg, amount=amount)
        return sign_discharge(self.twins.venue.domain, said, another(signer) if flaw == "signer" else signer)

    def releasing(self, actor: SigningKey, session: Session, signed: Sequence[SignedDischarge]) -> Step:
        called = b"".join(map(packed, signed))

        def action(address: bytes, nonce: int) -> Release:
            return Release(actor=address, nonce=nonce, discharges=tuple(signed))

        return Step(
            "release", actor, action, "release", lambda _: (as_call(session), self.twins.marks(session) + called)
        )

    def closing(self, actor: SigningKey, session: Session) -> Step:
        def action(address: bytes, nonce: int) -> Close:
            return Close(actor=address, nonce=nonce, session=session_id(session))

        return Step("close", actor, action, "close", lambda _: (as_call(session), self.twins.marks(session)))

    def receipt(self, session: Session, leg: int, tokens: int, flaw: str = "") -> SignedReceipt:
        said = Receipt(
            session=session_id(session),
            leg=leg,
            window=1 if flaw == "window" else 0,
            tokens_in=5,
            tokens_out=tokens,
            rows=9,
            input=b"\x31" * 32,
            output=b"\x32" * 32,
            tokens=bytes(32),
            nonce={"nonce": b"\x34" * 32, "zero": bytes(32)}.get(flaw, b"\x33" * 32),
            sketches=bytes(32),
            millijoules=77,
            source=Provenance.MODEL,
            pue_milli=1200,
            p50_us=1,
            p95_us=2,
            late=0,
        )
        signer = key_of(session.legs[min(leg, len(session.legs) - 1)].provider)
        key = another(signer) if flaw == "signer" else signer
        return SignedReceipt(receipt=said, signature=sign_typed(self.twins.venue.domain, said, key))

    def slashing(self, actor: SigningKey, session: Session, pair: Sequence[SignedReceipt]) -> Step:
        first, second = pair
        called = [part for each in pair for part in (receipt_call(each.receipt), split(each.signature))]
        return self.simple("slash", actor, Slash, as_call(session), *called, first=first, second=second)

    def equivocating(self, actor: SigningKey, pair: Sequence[SignedCheckpoint], log: Domain) -> Step:
        first, second = pair
        called: list[Any] = [log.verifying_contract]
        for each in pair:
            said = each.checkpoint
            called += [(said.origin, said.size, said.root), split(each.signature)]
        at = log.verifying_contract
        return self.simple("equivocation", actor, Equivocation, *called, ledger=at, first=first, second=second)

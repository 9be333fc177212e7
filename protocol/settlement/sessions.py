"""Sessions are opened, settled, released, closed (docs/spec/settlement.md, clauses L7 to L10)."""

from __future__ import annotations

from collections.abc import Callable

from protocol.errors import MalformedError, RuleError, SignatureError
from protocol.identity.ids import SessionId
from protocol.session.messages import SignedDischarge, SignedVoucher, check_discharge, check_voucher, session_id
from protocol.session.metering import reserved_caps
from protocol.settlement.operations import Close, Open, Release, Settle
from protocol.settlement.state import Draft, SessionRecord, require_positive

__all__ = ["MAX_SESSION_S", "close", "open_session", "release", "settle"]

MAX_SESSION_S = 90 * 24 * 3600
"""A session expires at most this long after it opens."""


def open_session(draft: Draft, action: Open) -> None:
    """L7: reserve the caps of all legs. Raises RuleError or SignatureError."""
    session = action.session
    # L7 (1) the client's own act, or signed by it
    if session.client == draft.actor:
        if action.signature:
            raise RuleError("a client that opens its own session signs it once", code="not-client")
    elif draft.recover(draft.domain, session, action.signature) != session.client:
        raise SignatureError("the session is not signed by its client for this ledger")
    # (2) expiry
    if not draft.now < session.expiry <= draft.now + MAX_SESSION_S:
        raise RuleError("the session's expiry is past, or more than 90 days ahead", code="expiry")
    # (3) new
    identity = session_id(session)
    if draft.state.session(identity) is not None:
        raise RuleError("this very session was opened before", code="exists")
    # (4) something is at stake, and the client has it
    caps = reserved_caps(session)
    require_positive(caps)
    draft.debit(session.client, caps)
    ceilings = tuple(leg.cap for leg in session.legs)
    draft.sessions[identity] = SessionRecord(session, (0,) * len(ceilings), ceilings)


def settle(draft: Draft, action: Settle) -> None:
    """L8: pay what vouchers promise. Raises RuleError or SignatureError."""
    for signed in action.vouchers:
        _settle_one(draft, signed)


def _settle_one(draft: Draft, signed: SignedVoucher) -> None:
    identity = SessionId(signed.voucher.session)
    record = draft.session(identity)
    # L8 (1) V1 to V3: the client's, for this session and this venue, within every cap
    _check_carried(lambda: check_voucher(draft.domain, record.session, signed, draft.recover))
    # (2) in time
    if draft.now > record.session.expiry + draft.grace_s:
        raise RuleError("the session's grace has ended", code="expired")
    # (3) each leg's amount rises on its own, as far as it has not discharged the rest
    claims = zip(signed.voucher.amounts, record.settled, record.ceilings, strict=True)
    promised = tuple(max(before, min(claimed, most)) for claimed, before, most in claims)
    if promised == record.settled:
        raise RuleError("this voucher pays nobody more than was settled before", code="settled")
    # (4) and as far as its bond bounds what it is paid in this period
    settled = tuple(
        _pay(draft, leg.provider, before, after)
        for leg, before, after in zip(record.session.legs, record.settled, promised, strict=True)
    )
    if settled == record.settled:
        raise RuleError(
            "the legs have been paid as much in this period as their bonds allow",
            code="bond",
            hint="stake more, or settle in the next period: the voucher stays good until the grace ends",
        )
    draft.sessions[identity] = SessionRecord(record.session, settled, record.ceilings)


def _pay(draft: Draft, provider: bytes, before: int, promised: int) -> int:
    """What is settled for a leg after it has been paid what its bond allows."""
    amount = min(promised - before, draft.claimable(provider))
    if amount > 0:
        draft.pay(provider, amount)
    return before + amount


def release(draft: Draft, action: Release) -> None:
    """L9: give back what legs do not claim. Raises RuleError or SignatureError."""
    for signed in action.discharges:
        _release_one(draft, signed)


def _release_one(draft: Draft, signed: SignedDischarge) -> None:
    discharge, identity = signed.discharge, SessionId(signed.discharge.session)
    record = draft.session(identity)
    # L9 (1) V7: the leg's own word, for this venue
    _check_carried(lambda: check_discharge(draft.domain, record.session, signed, draft.recover))
    # (2) it frees something: what is settled stays settled
    leg = discharge.leg
    ceiling = max(record.settled[leg], min(record.ceilings[leg], discharge.amount))
    freed = record.ceilings[leg] - ceiling
    if freed == 0:
        raise RuleError("this discharge frees nothing that is still held", code="released")
    draft.credit(record.session.client, freed)
    ceilings = (*record.ceilings[:leg], ceiling, *record.ceilings[leg + 1 :])
    draft.sessions[identity] = SessionRecord(record.session, record.settled, ceilings)


def close(draft: Draft, action: Close) -> None:
    """L10: give back what is left after the grace. Raises RuleError."""
    record = draft.session(action.session)
    if draft.now <= record.session.expiry + draft.grace_s:
        raise RuleError("a session closes after its grace; before, its legs' discharges release it", code="early")
    draft.credit(record.session.client, record.reserved)
    draft.sessions[SessionId(action.session)] = SessionRecord(record.session, record.settled, record.settled)


def _check_carried(check: Callable[[], None]) -> None:
    """A voucher or discharge that does not fit its session breaks a rule of the ledger; `code` stays."""
    try:
        check()
    except MalformedError as error:
        raise RuleError(error.message, code="cap" if error.code == "cap" else "mismatch") from None

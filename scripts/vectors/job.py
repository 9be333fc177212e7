"""Write tests/vectors/job.json: two small jobs down to the bytes, and what breaks a clause each; --check only compares.

``python -m scripts.vectors.job``. Everything in it follows from fixed secrets, salts and times and from two formulas
for rows and tokens, so that another implementation needs no model to be held against it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.pipeline.buying.reclaim import freed_by
from protocol.identity.ids import keccak256
from protocol.identity.signing import open_envelope, seal
from protocol.market.offer import Offer
from protocol.models.activations import ActivationType
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.receipts.bundle_text import seal_transcript
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, make_orders, make_session, make_terms
from protocol.session.draws import NonceChain
from protocol.session.messages import Session, sign_voucher
from protocol.session.metering import window_count
from protocol.session.order import JobOrder
from protocol.session.shaping import Shaping, TokenBias, bound_to
from protocol.session.tab import first_voucher
from protocol.session.terms import Plan, SamplingTerms, Terms
from protocol.settlement.operations import Open, Release, Settle
from scripts.vectors.kept import keep
from scripts.vectors.log import Log, Taken, new_log
from scripts.vectors.parties import CLIENT, DOMAIN, LOG_KEY, MANIFEST, NOW, POLICY, sealed_offer
from scripts.vectors.talk import Served, Talk, accept, chain_of

__all__ = ["ExampleJob", "example_jobs", "run_job", "two_legs"]

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "job.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleJob:
    """Everything of one job."""

    name: str
    about: str
    log: Log
    terms: Terms
    session: Session
    chain: NonceChain
    offers: tuple[bytes, ...]
    orders: tuple[JobOrder, ...]
    sealed_orders: tuple[bytes, ...]
    legs: tuple[Served, ...]
    talk: Talk
    opened: Taken
    settled: Taken
    released: Taken | None
    """None where nothing was left to return."""
    bundle: Bundle


def run_job(
    name: str,
    about: str,
    *,
    spans: Sequence[tuple[int, int]],
    prompt: Sequence[int],
    plan: Plan,
    activations: ActivationType,
    credit: int = 0,
    shaping: Shaping | None = None,
    logprobs: int | None = None,
    told: Sequence[int] | None = None,
) -> ExampleJob:
    """A job over these spans, from the opening of its session to its receipt bundle.

    Args:
        told: the prompt that the last leg is told of, where that is another one: then the bundle does not hold.
    """
    log = new_log()
    offers = tuple(
        sealed_offer(number, span, activations=activations, credit=credit) for number, span in enumerate(spans)
    )
    chain = chain_of(f"{name} client", window_count(plan))
    terms = make_terms(
        [_chosen(sealed) for sealed in offers],
        manifest=MANIFEST,
        venue=DOMAIN.separator,
        policy=POLICY,
        plan=plan,
        sampling=SamplingTerms(
            temperature_milli=700, seed=12345, shaping=bound_to(shaping, told or prompt), logprobs=logprobs
        ),
        nonces=chain.anchor,
    )
    salt = keccak256(f"example {name} salt".encode())
    session = make_session(terms, client=CLIENT.address, expiry=NOW + 900, salt=salt)
    opening = Open(actor=CLIENT.address, nonce=log.next_nonce(CLIENT), session=session, signature=b"")
    opened = log.do(CLIENT, opening, now=NOW)
    first = sign_voucher(DOMAIN, first_voucher(session, terms), CLIENT)
    orders = make_orders(terms, session, pay=first, opened=log.prove(opened), offers=offers, issued_at=NOW)
    sealed_orders = tuple(seal(order, CLIENT) for order in orders)
    legs = tuple(accept(sealed, name, leg) for leg, sealed in enumerate(sealed_orders))
    talk = Talk(session, terms, legs, chain=chain, prompt=prompt, told=told or prompt, first=first)
    talk.run()
    settled, released = _settle(log, talk)
    bundle = _bundle(log, terms, session, offers, legs, talk, (opened, settled, released))
    if told is None:
        verify_bundle(bundle)
    return ExampleJob(
        name=name,
        about=about,
        log=log,
        terms=terms,
        session=session,
        chain=chain,
        offers=offers,
        orders=orders,
        sealed_orders=sealed_orders,
        legs=legs,
        talk=talk,
        opened=opened,
        settled=settled,
        released=released,
        bundle=bundle,
    )


def _chosen(sealed: bytes) -> Chosen:
    offer, _ = open_envelope(sealed, Offer)
    return Chosen(RouteLeg(offer, offer.span, offer.rates.price_in, offer.rates.price_out), sealed)


def _settle(log: Log, talk: Talk) -> tuple[Taken, Taken | None]:
    settle = Settle(actor=CLIENT.address, nonce=log.next_nonce(CLIENT), vouchers=(talk.vouchers[-1],))
    settled = log.do(CLIENT, settle, now=NOW + 20)
    record = log.books.session(talk.tab.id)
    words, _ = ((), 0) if record is None else freed_by([each.signed for each in talk.discharges.values()], record)
    if not words:
        return settled, None
    release = Release(actor=CLIENT.address, nonce=log.next_nonce(CLIENT), discharges=words)
    return settled, log.do(CLIENT, release, now=NOW + 21)


def _bundle(
    log: Log,
    terms: Terms,
    session: Session,
    offers: tuple[bytes, ...],
    legs: Sequence[Served],
    talk: Talk,
    taken: tuple[Taken, Taken, Taken | None],
) -> Bundle:
    text = (" ".join(map(str, talk.tab.tokens[: terms.plan.prompt])), " ".join(map(str, talk.tab.tokens)))
    rows = [window.receipts for window in talk.tab.book.windows] + [talk.tab.closing]
    return Bundle(
        verifier_key=str(LOG_KEY.verifier),
        manifest=MANIFEST,
        terms=terms,
        session=session,
        offers=offers,
        acceptances=tuple(each.acceptance for each in legs),
        tokens=tuple(talk.tab.tokens),
        said=tuple(talk.tab.said),
        windows=tuple(tuple((each.signed, each.sketches) for each in row) for row in rows),
        nonce=talk.tab.nonce,
        pay=talk.vouchers[-1],
        opened=log.prove(taken[0]),
        settled=log.prove(taken[1]),
        released=None if taken[2] is None else log.prove(taken[2]),
        transcript=seal_transcript(session, text, CLIENT),
        text=text,
    )


def two_legs(told: Sequence[int] | None = None) -> ExampleJob:
    """The first example, or one whose last leg was told of another prompt."""
    return run_job(
        "two legs",
        "fp32 rows, draws that look back, log probabilities; a stop token ends the answer, in the middle of a window",
        spans=((0, 2), (2, 6)),
        prompt=(3, 1, 4, 1, 5),
        plan=Plan(prompt=5, most=9, chunk=3, window=4),
        activations=ActivationType.FP32,
        shaping=Shaping(repetition_milli=1_250, frequency=2_500, biases=(TokenBias(token=7, lift=98_500),), answered=1),
        logprobs=2,
        told=told,
    )


def example_jobs() -> tuple[ExampleJob, ...]:
    """Two legs whose answer ends by a stop token inside of a window; one leg that serves all that was ordered."""
    return (
        two_legs(),
        run_job(
            "one leg",
            "bf16 rows; every token that was ordered is served",
            spans=((0, 6),),
            prompt=(2, 7),
            plan=Plan(prompt=2, most=3, chunk=4, window=2),
            activations=ActivationType.BF16,
            credit=2,
        ),
    )


def main() -> int:
    from scripts.vectors.document import document

    return keep(FILE, document(example_jobs()))


if __name__ == "__main__":
    sys.exit(main())

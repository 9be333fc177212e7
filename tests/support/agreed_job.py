"""What is agreed before a job, in memory: terms, an open session, acceptances and nonces. `played_job` plays it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from market_offers import NOW, a_policy, an_offer, key_of, some_rates
from paper_ledger import PaperLedger

from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Offer
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, make_session, make_terms
from protocol.session.continuing import joinings
from protocol.session.draws import NonceChain
from protocol.session.frames import Joining
from protocol.session.messages import (
    Session,
    session_id,
)
from protocol.session.order import Acceptance
from protocol.session.terms import Continuation, Plan, SamplingTerms, Terms, terms_hash
from protocol.settlement.operations import Open

__all__ = ["CLIENT", "HIDDEN", "VOCABULARY", "Agreed", "agree"]

CLIENT = SigningKey(b"\x01" * 32)
HIDDEN = 8
VOCABULARY = 1000
MOST_WINDOWS = 300
RATES = {
    "opening": 7,
    "price_in": 1_000_000,
    "price_out": 2_500_001,
    "price_cached": 100_000,
    "late_discount_ppm": 250_000,
}
Spans = Sequence[tuple[int, int]]


@dataclass(kw_only=True)
class Agreed:
    """A session that is open, and what its parties hold."""

    ledger: PaperLedger
    manifest: ModelManifest
    keys: tuple[SigningKey, ...]
    """Of the legs."""
    offers: tuple[bytes, ...]
    terms: Terms
    session: Session
    acceptances: dict[int, bytes]
    cached: tuple[int, ...]
    replays: tuple[bool, ...]
    chains: tuple[NonceChain, ...]
    """Of the legs."""
    client_chain: NonceChain
    opened: int
    """Place of the opening entry in the ledger's log."""

    @property
    def plan(self) -> Plan:
        return self.terms.plan

    @property
    def joinings(self) -> tuple[Joining, ...]:
        """Of the legs of the route, where all of them accept."""
        count, continues = len(self.terms.route), self.terms.continues
        return joinings(self.cached[:count], self.replays[:count], 0 if continues is None else continues.positions)

    @property
    def base(self) -> int:
        return self.joinings[0].base

    @property
    def starts(self) -> tuple[int, ...]:
        """By leg, the first position that it computes; a standby holds nothing."""
        return (*(each.start for each in self.joinings), *(0 for _ in self.terms.standbys))

    @property
    def id(self) -> bytes:
        return session_id(self.session)

    def accept(self, leg: int, key: SigningKey | None = None, /, **changes: Any) -> bytes:
        """A leg's sealed acceptance."""
        acceptance = Acceptance(
            session=self.id,
            leg=leg,
            terms=terms_hash(self.terms),
            cached=self.cached[leg],
            replays=self.replays[leg],
            nonces=self.chains[leg].anchor,
        )
        return seal(acceptance.replace(**changes), key or self.keys[leg])


def chain_of(name: str, length: int = MOST_WINDOWS) -> NonceChain:
    """Somebody's nonces, the same in every run."""
    return NonceChain(hashlib.sha256(name.encode()).digest(), length)


def manifest_of(blocks: int) -> ModelManifest:
    """A model that nobody has."""
    return ModelManifest(
        name="paper",
        precision="fp32",
        blocks=blocks,
        hidden_size=HIDDEN,
        vocabulary=VOCABULARY,
        max_context=4096,
        stop_tokens=(0,),
        files=(ModelFile(name="config.json", size=1, sha256=bytes(32), chunks=bytes(32)),),
    )


def offered(number: int, span: tuple[int, int], manifest: ModelManifest, venue: bytes, **changes: Any) -> Offer:
    """What leg `number` offers."""
    values: dict[str, Any] = {
        "rates": some_rates(**{**RATES, "price_in": RATES["price_in"] + number}),
        "venue": venue,
        "model": manifest.root,
        "blocks": manifest.blocks,
    }
    return an_offer(number, span, **{**values, **changes})


def agree(
    *,
    spans: Spans = ((0, 2), (2, 4), (4, 6)),
    standbys: Spans = (),
    prompt: int = 10,
    most: int = 11,
    chunk: int = 4,
    window: int = 4,
    continues: int = 0,
    cached: Mapping[int, int] | None = None,
    replays: Iterable[int] = (),
    ahead: int = 1,
    continued: bytes = b"\x77" * 32,
    silent: Iterable[int] = (),
    offers: Mapping[int, dict[str, Any]] | None = None,
    policy: dict[str, Any] | None = None,
    salt: int = 0,
    ledger: PaperLedger | None = None,
    change: Callable[[Terms], Terms] = lambda terms: terms,
) -> Agreed:
    """Make terms, open their session, and let the legs accept.

    Args:
        continues: positions of an earlier session; 0 for a job that begins anew.
        cached: by leg, how many of them it still holds.
        replays: legs that can send again what they sent of these.
        continued: the earlier session.
        silent: legs that accept nothing.
        offers: changes to the offers, by leg.
        change: the last word on the terms.
    """
    ledger = ledger or PaperLedger(NOW)
    everybody = (*spans, *standbys)
    manifest = manifest_of(max(end for _, end in spans))
    chosen = []
    for leg, (start, end) in enumerate(everybody):
        offer = offered(leg, (start, end), manifest, ledger.domain.separator, **(offers or {}).get(leg, {}))
        span = BlockSpan(start=start, end=end)
        chosen.append(Chosen(RouteLeg(offer, span, 0, 0), seal(offer, key_of(leg))))
    client_chain = chain_of("client")
    terms = change(
        make_terms(
            chosen[: len(spans)],
            manifest=manifest,
            venue=ledger.domain.separator,
            policy=a_policy(**(policy or {})),
            plan=Plan(prompt=prompt, most=most, chunk=chunk, window=window, ahead=ahead),
            sampling=SamplingTerms(temperature_milli=700, seed=5),
            nonces=client_chain.anchor,
            standbys=chosen[len(spans) :],
            continues=Continuation(session=continued, positions=continues) if continues else None,
        )
    )
    session = make_session(terms, client=CLIENT.address, expiry=NOW + 600, salt=salt.to_bytes(32, "big"))
    ledger.fund(CLIENT.address, sum(leg.cap for leg in session.legs) + 100)
    made = Agreed(
        ledger=ledger,
        manifest=manifest,
        keys=tuple(key_of(leg) for leg in range(len(everybody))),
        offers=tuple(each.sealed for each in chosen),
        terms=terms,
        session=session,
        acceptances={},
        cached=tuple((cached or {}).get(leg, 0) for leg in range(len(everybody))),
        replays=tuple(leg in set(replays) for leg in range(len(everybody))),
        chains=tuple(chain_of(f"leg {leg}") for leg in range(len(everybody))),
        client_chain=client_chain,
        opened=ledger.act(CLIENT, Open, session=session, signature=b""),
    )
    made.acceptances = {leg: made.accept(leg) for leg in range(len(everybody)) if leg not in set(silent)}
    return made

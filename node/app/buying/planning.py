"""From what somebody wants to what is agreed: the market for a request, and the plan that it becomes.

Everything here is decided before money moves. `Client.plan` makes plans; `Client.execute` carries them out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from node.app.buying.grammars import held_offers, held_to_text
from node.app.buying.law import ends_of, law_of, policy_of
from node.app.buying.request import Request
from node.app.buying.sampling import require_known_tokens, sampling_of
from node.app.buying.standing_by import by_block, stand_by
from node.app.network.shunned import address_of, known_of, left_alone, shunned
from node.config import ClientConfig
from node.pipeline.buying.job import Deal, make_deal
from node.ports import Clock, Randomness, VenueRules
from protocol.errors import ConfigurationError
from protocol.identity.ids import Address, BlockSpan, ModelManifest
from protocol.market.offer import Evidence, Offer
from protocol.policy.ends import opened
from protocol.policy.policy import NOTHING_KNOWN, Known, Needs, Policy, Reason, ReasonCode
from protocol.reputation.merit import Merit
from protocol.reputation.standing import NEWCOMER, Deed, Standing
from protocol.routing.cells import Bools
from protocol.routing.choice import ENOUGH, SILENT, MeritOf, covers_some_model, covers_twice, nothing_known
from protocol.routing.columns import Columns
from protocol.routing.judging import Judge
from protocol.routing.kept_route import kept_legs
from protocol.routing.router import route_over
from protocol.routing.routes import NoRouteError, Route
from protocol.routing.shortlist import FIRST, shortlist
from protocol.routing.ways import ONE_REGION, UNKNOWN_RTT_US, measured_ways, ways_by_region
from protocol.routing.wish import Wish, of_any
from protocol.session.agreement import Chosen, paid_nobody
from protocol.session.metering import reserved_caps
from protocol.session.terms import Plan

__all__ = ["JobPlan", "Market"]

AHEAD = 3
"""Windows that legs may serve beyond the last one that all have signed for."""
CHANCES = 2
"""Offers of newcomers that are looked at beside those of known providers."""
STANDBYS = 2
"""That are named for each leg of a route, where there are so many."""
_NOT_WANTED = Reason(ReasonCode.UNREACHABLE, "it is left out: it did not take this job before")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a request becomes on the offers of now. Nothing is reserved yet; it is carried out once, and soon."""

    request: Request
    manifest: ModelManifest
    route: Route
    deal: Deal
    rules: VenueRules
    """Of the ledger; `fee` is charged for each of a job's operations."""
    free_micro: int
    """The client's free micro-units when this was made."""

    @property
    def reserved_micro(self) -> int:
        """Micro-units that the session reserves: the most that its legs can cost."""
        return reserved_caps(self.deal.session)


class Market:
    """The offers of one model against one request: who is worth asking, and the route through those who answer.

    Args:
        config: what the request leaves open.
        offers: of the model, each with its sealed bytes.
        venue: domain separator of the ledger.
        standing: what is remembered of a provider, by its address.
        merit: of a provider's public key: who is looked at first.
        busy: by public key of nodes that said so, when to come back, in Unix seconds: whoever comes then finds a place,
            whatever its offer says.
        columns: that the offers stand in, where they do; nobody else changes them.

    Raises:
        ConfigurationError: the prompt is empty, or leaves no room in the model's context; or no such policy field.
        RoutingError: the answer is to be held to a grammar, and nobody offers that.
    """

    def __init__(
        self,
        request: Request,
        config: ClientConfig,
        manifest: ModelManifest,
        offers: Sequence[tuple[Offer, bytes]],
        *,
        venue: bytes,
        clock: Clock,
        standing: Callable[[bytes], Standing] = lambda _address: NEWCOMER,
        merit: MeritOf = nothing_known,
        busy: Mapping[bytes, int] = MappingProxyType({}),
        columns: Columns | None = None,
    ) -> None:
        self._merit = merit
        self._request = request
        self._config = config
        self._manifest = manifest
        self._offers = held_offers([offer for offer, _ in offers], manifest.blocks, request.grammar)
        self._sealed = {id(offer): sealed for offer, sealed in offers}
        self._venue = venue
        self._clock = clock
        self.plan = self._plan()
        self.law = law_of(config, clock())
        self.policy = self._policy()
        self._ends = ends_of(config, {offer.public_key for offer in self._offers}, request)
        self._without = dict.fromkeys(request.exclude, _NOT_WANTED)
        self._round_trips: dict[bytes, int] = {}
        self._standing = standing
        nodes = {offer.public_key for offer in self._offers}
        remembered = {node: was for node in nodes if (was := standing(address_of(node))) is not NEWCOMER}
        self._shunned = shunned(remembered, clock()) | left_alone(busy, clock())
        self._known = {node: known_of(was) for node, was in remembered.items()}
        self._known |= {node: Known(has_place=True) for node in busy if node in nodes}
        """By public key, of those of whom something is."""
        self._columns = Columns() if columns is None else columns
        rows = [self._columns.row(offer) for offer in self._offers]
        self._among = np.zeros(self._columns.rows, dtype=bool)
        """(rows,) which of the columns' offers are of this market."""
        self._among[rows] = True
        self._staked: set[bytes] = set()
        """Whose stake was looked up."""

    def without_stake(self, offers: Iterable[Offer]) -> list[bytes]:
        """Public keys of those whose stake is to be looked up: nobody's, where the policy asks for none."""
        return [] if self.policy.min_stake == 0 else list({each.public_key for each in offers} - self._staked)

    def take_stakes(self, stakes: Mapping[bytes, int]) -> None:
        """Take in micro-units at stake, by public key."""
        self._staked |= stakes.keys()
        for node, stake in stakes.items():
            self._known[node] = dataclasses.replace(self._known.get(node, NOTHING_KNOWN), stake=stake)

    def readmit(self) -> bool:
        """Look at more of the providers that are shunned, for want of others; whether there are any.

        First at those that failed, then at those that did what no honest one does.
        """
        failed = [node for node, (_, offended) in self._shunned.items() if not offended]
        again = failed or list(self._shunned)
        for node in again:
            del self._shunned[node]
        return bool(again)

    def _plan(self) -> Plan:
        prompt, context = len(self._request.prompt), self._manifest.max_context
        wanted = self._config.max_tokens if self._request.most is None else self._request.most
        most = min(wanted, context - prompt)
        if prompt < 1 or most < 1:
            raise ConfigurationError(
                f"the prompt has {prompt} tokens; the model takes 1 to {context - 1}, and at least one is generated",
                hint="shorten the prompt" if prompt else "write something to ask",
            )
        window = self._config.window if self._request.window is None else self._request.window
        return Plan(prompt=prompt, most=most, chunk=min(self._request.chunk, prompt), window=window, ahead=AHEAD)

    def _policy(self) -> Policy:
        policy = policy_of(self._config, self._manifest, self.law)
        unknown = self._request.policy.keys() - {each.name for each in dataclasses.fields(Policy)}
        if unknown:
            raise ConfigurationError(f"a policy has no {', '.join(sorted(unknown))}")
        policy = policy.replace(**self._request.policy)
        if policy.licenses and self._manifest.license not in policy.licenses:
            stated = self._manifest.license or "no licence that it states"
            raise ConfigurationError(
                f"the model is under {stated}, and your policy allows {', '.join(policy.licenses)}", code="license"
            )
        return policy

    @property
    def _needs(self) -> Needs:
        plan = self.plan
        return Needs(positions=plan.prompt + plan.most, window=plan.window, chunk=plan.chunk, law=self.law)

    @property
    def _prompt_milli(self) -> int:
        return 1000 * self.plan.prompt // (self.plan.prompt + self.plan.most)

    def worth_asking(self, most: int = FIRST) -> list[Offer]:
        """A shortlist: the best offers that the policy admits, less those whose nodes were found silent.

        Where they are all of providers that are known, a few others have their chance.
        """
        judge = self._judge(hoped=True)
        usable = judge.admitted() & ~of_any(self._columns, self._without.keys() | self._shunned.keys())
        ways = ways_by_region(self._columns, {}, ONE_REGION)
        short = shortlist(judge, ways, self._wish(), usable, merit=self._merit, most=most * (1 + self._request.backups))
        kept = self._kept(usable)
        short = [*(self._columns.offer(row) for row in self._rows_of(kept, usable)), *short]
        short = list({id(offer): offer for offer in short}.values())
        if self._config.standbys:  # who is on no second route may still stand by for a leg of the first
            left = usable & ~of_any(self._columns, [offer.public_key for offer in short])
            spares = opened(self._ends, map(self._columns.offer, np.flatnonzero(left).tolist()), self._manifest.blocks)
            short += sorted((offer for offer, _ in spares), key=by_block)[: max(0, most - len(short))]
        if all(self._merit(offer.public_key) < Merit.PAID for offer in short):
            return short
        others = np.flatnonzero(usable & ~of_any(self._columns, [offer.public_key for offer in short])).tolist()
        return [*short, *map(self._columns.offer, random.sample(others, min(CHANCES, len(others))))]

    def _judge(self, *, hoped: bool) -> Judge:
        """Of the offers of this market, by what is known of providers, or may be hoped of them."""
        of = self._hoped if hoped else self._known_of
        return Judge(
            columns=self._columns,
            policy=self.policy,
            model=self._manifest.root,
            blocks=self._manifest.blocks,
            venue=self._venue,
            now=self._clock(),
            needs=self._needs,
            known={node: of(node) for node in self._known.keys() | self._staked | self._round_trips.keys()},
            others=of(b""),
            among=self._among,
        )

    def _wish(self, **more: Any) -> Wish:
        return Wish(
            latency_weight=self._config.latency_weight_micro_per_ms,
            carbon_price=self._config.carbon_price_micro,
            prompt_milli=self._prompt_milli,
            ends=self._ends,
            **more,
        )

    def _rows_of(self, nodes: Iterable[bytes], usable: Bools) -> list[int]:
        """Rows that may be used of some providers."""
        rows: list[int] = np.flatnonzero(usable & of_any(self._columns, nodes)).tolist()
        return rows

    def _admitted(self, nodes: Iterable[bytes]) -> list[Offer]:
        """Offers of some providers that the policy admits, as far as one knows."""
        judge = self._judge(hoped=True)
        return [self._columns.offer(row) for row in self._rows_of(nodes, judge.admitted())]

    def _known_of(self, node: bytes) -> Known:
        return self._known.get(node, NOTHING_KNOWN)

    def _hoped(self, node: bytes) -> Known:
        """What is known of a provider; whose stake was not looked up may have enough, until it is to be asked, and who
        was not measured may stand where it says.
        """
        known, least = self._known_of(node), self.policy.min_stake
        if least and node not in self._staked:
            known = dataclasses.replace(known, stake=least)
        if node not in self._round_trips and self.law.trust is not None and self.law.trust.stands is not None:
            known = dataclasses.replace(known, evidence=Evidence.RTT_CONSISTENT)
        return known

    def hear(self, asked: Iterable[Offer], round_trips: Mapping[bytes, int]) -> bool:
        """Take in who of those who were asked answered, in microseconds; whether all of them did."""
        silent = {offer.public_key for offer in asked} - round_trips.keys()
        self._without |= dict.fromkeys(silent, SILENT)
        for node in round_trips.keys() & self._without.keys():
            if self._without[node] == SILENT:  # it was only slow
                del self._without[node]
        self._round_trips |= round_trips
        for node, us in round_trips.items():
            if us != UNKNOWN_RTT_US:
                self._known[node] = dataclasses.replace(self._known.get(node, NOTHING_KNOWN), round_trip_us=us)
        return not silent

    def would_do(self, round_trips: Mapping[bytes, int]) -> bool:
        """Whether these nodes, with those that were heard of before, leave no block out."""
        return covers_some_model(self._there(round_trips))

    def is_enough(self, round_trips: Mapping[bytes, int]) -> bool:
        """Whether no others need be waited for: these would do, and where standbys are wanted, are there twice."""
        there = self._there(round_trips)
        return covers_twice(there, self._manifest.root) if self._config.standbys else covers_some_model(there)

    def _there(self, round_trips: Mapping[bytes, int]) -> list[Offer]:
        """Offers of those that answered, each with the blocks alone that it may serve."""
        there = self._admitted(self._round_trips.keys() | round_trips.keys())
        return [
            offer if offer.span == span else offer.replace(span=span)
            for offer, span in opened(self._ends, there, self._manifest.blocks)
        ]

    @property
    def round_trips(self) -> dict[bytes, int]:
        """Microseconds by public key, to those that answered."""
        return dict(self._round_trips)

    def route(self) -> Route:
        """The best route over the nodes that answered. Raises NoRouteError, which says why not the others."""
        admitted = self._judge(hoped=True).admitted()
        unasked = admitted & ~of_any(self._columns, self._round_trips)
        dearer = {self._columns.offer(row).public_key: ENOUGH for row in np.flatnonzero(unasked).tolist()}
        shunned = {node: reason for node, (reason, _) in self._shunned.items()}
        without = dearer | shunned | self._without
        judge = self._judge(hoped=False)
        regions = measured_ways(self._offers, self._round_trips)
        ways = ways_by_region(self._columns, self._round_trips, regions)
        wish = self._wish(prompt=self.plan.prompt, standbys=STANDBYS, backups=self._request.backups, without=without)
        if kept := self._kept(admitted & ~of_any(self._columns, without)):
            with suppress(NoRouteError):
                return route_over(judge, ways, dataclasses.replace(wish, kept=kept))
        return route_over(judge, ways, wish)

    def _kept(self, usable: Bools) -> Mapping[bytes, BlockSpan]:
        """The legs of the session to go on from that the offers that may be used are of."""
        earlier = self._request.earlier
        if earlier is None:
            return {}
        rows = self._rows_of([key for key, _ in earlier.legs], usable)
        return kept_legs([self._columns.offer(row) for row in rows], earlier.legs)

    def deal(self, found: Route, *, client: Address, randomness: Randomness) -> Deal:
        """Terms and a session over a route of this market."""
        config, earlier = self._config, self._request.earlier
        sampling = held_to_text(self._request.sampling or sampling_of(config), self._request.grammar)
        require_known_tokens(sampling, self._manifest)
        return make_deal(
            [Chosen(leg, self._sealed[id(leg.offer)]) for leg in found.legs],
            standbys=self._standbys(found),
            manifest=self._manifest,
            venue=self._venue,
            policy=self.policy,
            plan=self.plan,
            sampling=sampling,
            prompt=self._request.prompt,
            grammar=self._request.grammar,
            client=client,
            expiry=self._clock() + config.session_s,
            randomness=randomness,
            continues=None if earlier is None else earlier.continued_by(self._request.prompt),
            paid=self._paid if self._request.credit else paid_nobody,
            drafts=config.drafts == "auto",
            law=self.law,
            measured={node: each.round_trip_us for node, each in self._known.items()},
        )

    def _standbys(self, found: Route) -> list[Chosen]:
        """Nodes that answered, and could take over from a leg; the cheapest first."""
        on_route = {leg.offer.public_key for leg in found.legs}
        nodes = self._round_trips.keys() - on_route - self._shunned.keys() - self._without.keys()
        chosen = stand_by(
            found.legs,
            self._admitted(nodes),
            most=self._config.standbys,
            policy=self.policy,
            until=self.law.until,
            ends=self._ends,
            blocks=self._manifest.blocks,
        )
        return [Chosen(leg, self._sealed[id(leg.offer)]) for leg in chosen]

    def _paid(self, provider: Address) -> int:
        return self._standing(provider).of(Deed.SERVED).amount

"""Which sites may serve which class: a client's policy and a node's offer, judged by the rule that clients judge by.

Sites of one region and kind of machine are alike to a policy, so one offer stands for each such pair.
"""

from __future__ import annotations

import functools

import numpy as np

from protocol.errors import ConfigurationError, InvalidError
from protocol.geography.jurisdictions import UNDECLARED, is_subdivision
from protocol.identity.ids import MAX_TOKENS, BlockSpan
from protocol.market.offer import (
    EnergyClaim,
    Evidence,
    Hardware,
    HardwareKind,
    Limits,
    Offer,
    Provenance,
)
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.corridors import Corridor
from protocol.policy.law import Law
from protocol.policy.policy import INFERENCE, Known, LatencyClass, Needs, Policy, Reason, excluded
from simulator.exact import Ints
from simulator.hardware import Hardware as Kind
from simulator.scenario import Settings
from simulator.tables import Demand, Region

__all__ = ["MODEL", "NOW", "VENUE", "judge", "lawful", "offer_of", "policy_of"]

MODEL, VENUE, _KEY = bytes(32), bytes(32), b"\x02" + bytes(32)
NOW, _ALWAYS = 1, 2**39
_PRECISION = "any"


@functools.lru_cache(maxsize=4096)
def policy_of(demand: Demand) -> Policy:
    """What a class asks of every node."""
    corridors = [way.split(">") for way in demand.corridors]
    return Policy(
        latency_class=LatencyClass(demand.latency_class),
        max_price_in=None,
        max_price_out=None,
        allow=demand.allow,
        deny=demand.deny,
        min_evidence=Evidence(demand.min_evidence),
        min_stake=0,
        precision=_PRECISION,
        origin=demand.origin,
        corridors=tuple(Corridor(source=a, to=b, purpose=INFERENCE, expires_at=_ALWAYS) for a, b in corridors),
        deny_hardware=demand.deny_hardware,
        max_carbon_g_per_kwh=demand.max_carbon or None,
    )


@functools.lru_cache(maxsize=4096)
def offer_of(region: Region, kind: Kind) -> Offer:
    """What a site in a region offers, with such machines."""
    place = region.jurisdiction
    many = MAX_TOKENS
    return Offer(
        public_key=_KEY,
        sequence=1,
        issued_at=0,
        expires_at=_ALWAYS,
        venue=VENUE,
        model=MODEL,
        model_name="model",
        license="",
        span=BlockSpan(start=0, end=1),
        blocks=1,
        precision=_PRECISION,
        activations=(ActivationType.FP32,),
        hardware=Hardware(device=HardwareKind.OTHER, name="", count=1, memory_mib=0, category=kind.category),
        limits=Limits(window=many, chunk=many, context=many, sessions=1, draft_depth=0, credit=0),
        rates=Rates(
            opening=0, price_in=0, price_out=0, price_cached=0, price_rejected=0, late_discount_ppm=kind.late_discount
        ),
        forecast=(),
        prompt_us=1,
        position_us=kind.position_us,
        late_us=kind.late_after_us,
        energy=EnergyClaim(
            millijoules_in=1,
            millijoules_out=1,
            source=Provenance.DECLARED,
            tariff_micro_per_kwh=0,
            pue_milli=1000,
            carbon_g_per_kwh=region.carbon,
            batch=1,
        ),
        jurisdiction=place[:2] if place != UNDECLARED else place,
        region=place if is_subdivision(place) else "",
        addresses=("",),
        data_addresses=("",),
        statements=(),
    )


def judge(demand: Demand, region: Region, kind: Kind) -> Reason | None:
    """Why such a site must not serve the class; None where it may."""
    return excluded(
        policy_of(demand),
        offer_of(region, kind),
        model=MODEL,
        venue=VENUE,
        now=NOW,
        needs=Needs(law=Law(until=NOW)),
        known=Known(evidence=Evidence(region.evidence)),
    )


def lawful(settings: Settings, region: Ints, hardware: Ints) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(C, N) whether each site may serve each class.

    Args:
        region, hardware: (N,) of each site, as indices.
    """
    kinds, places = list(settings.hardware.values()), list(settings.regions.values())
    try:
        table = np.array(
            [
                [[judge(demand, place, kind) is None for kind in kinds] for place in places]
                for demand in settings.demand.values()
            ]
        )
    except InvalidError as error:
        raise ConfigurationError(f"no policy or offer says that: {error.message}", hint="use shorter words") from error
    return np.asarray(table[:, region, hardware])

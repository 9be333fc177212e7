"""Who takes part in the example jobs, and what is fixed before the first of them: keys, ledger, model, offers."""

from __future__ import annotations

from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, seal
from protocol.log.note import NoteKey
from protocol.market.offer import (
    EnergyClaim,
    Evidence,
    Hardware,
    HardwareKind,
    Limits,
    Offer,
    Provenance,
    Statement,
)
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import LatencyClass, Policy
from protocol.session.logprobs import LogProb, pack_said
from protocol.settlement import ledger_domain

__all__ = [
    "BLOCKS",
    "CLIENT",
    "DOMAIN",
    "LOG_KEY",
    "MANIFEST",
    "NOW",
    "OPERATOR",
    "POLICY",
    "PROVIDERS",
    "STOP",
    "STRANGER",
    "VOCABULARY",
    "WIDTH",
    "Row",
    "offer_of",
    "row_after",
    "said_of",
    "sealed_offer",
    "token_after",
]

NOW = 1_800_000_000
"""Unix seconds at which every example begins."""
OPERATOR = SigningKey(b"\x01" * 32)
CLIENT = SigningKey(b"\x02" * 32)
STRANGER = SigningKey(b"\x03" * 32)
PROVIDERS = tuple(SigningKey(bytes([16 + number]) * 32) for number in range(3))
LOG_KEY = NoteKey("ledger.example/log", b"\x04" * 32)
DOMAIN = ledger_domain(str(LOG_KEY.verifier))
BLOCKS = 6
WIDTH = 8
VOCABULARY = 50
STOP = 33
"""The token that ends an answer."""
MANIFEST = ModelManifest(
    name="example",
    precision="fp32",
    blocks=BLOCKS,
    hidden_size=WIDTH,
    vocabulary=VOCABULARY,
    max_context=64,
    stop_tokens=(STOP,),
    license="Apache-2.0",
    files=(
        ModelFile(name="config.json", size=2, sha256=b"\x05" * 32, chunks=b"\x07" * 32),
        ModelFile(name="model.safetensors", size=4096, sha256=b"\x06" * 32, chunks=b"\x08" * 32),
    ),
)
POLICY = Policy(
    latency_class=LatencyClass.CHAT,
    max_price_in=None,
    max_price_out=9_000_000_000_000,
    allow=("EU", "IS"),
    deny=("DE-BE",),
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="fp32",
)
Row = list[int]
"""Sixteenths, one for each of `WIDTH` dimensions: exact as fp32 and as bf16."""


def row_after(leg: int, position: int, token: int) -> Row:
    """What leaves the blocks of a leg at a position, where this token entered the first one."""
    return [(31 * position + 17 * dimension + 7 * (leg + 1) + 13 * token) % 97 - 48 for dimension in range(WIDTH)]


def token_after(position: int, token: int) -> int:
    """What the last leg draws after the token at a position."""
    return (31 * token + 7 * position) % (VOCABULARY - 1) + 1


def said_of(token: int, position: int, top: int | None) -> bytes:
    """What the last leg says of a token that it draws for a position; nothing where nobody asks.

    At even positions it is the likeliest one, at odd ones less likely than all that are named.
    """
    if top is None:
        return b""
    odd, likely = position % 2, 1000 * position
    named = [LogProb((token + odd + step) % VOCABULARY, likely + step) for step in range(top)]
    return pack_said([LogProb(token, likely + odd * top), *named])


def _rates(number: int) -> Rates:
    return Rates(
        opening=10 + number,
        price_in=1_500_000 + number,
        price_out=2_500_001,
        price_cached=100_000,
        price_rejected=0,
        late_discount_ppm=200_000 * (number % 2),
    )


def offer_of(number: int, span: tuple[int, int]) -> Offer:
    """The offer of a provider for some blocks."""
    key = PROVIDERS[number]
    statement = Statement(
        subject=key.public_key, claim="place", value="IS-1", issued_at=NOW - 3600, expires_at=NOW + 3600
    )
    return Offer(
        public_key=key.public_key,
        sequence=7,
        issued_at=NOW - 60,
        expires_at=NOW + 600,
        venue=DOMAIN.separator,
        model=MANIFEST.root,
        model_name=MANIFEST.name,
        license=MANIFEST.license,
        span=BlockSpan(start=span[0], end=span[1]),
        blocks=BLOCKS,
        precision=MANIFEST.precision,
        activations=(ActivationType.FP32, ActivationType.BF16),
        hardware=Hardware(device=HardwareKind.CPU, name="", count=4, memory_mib=8192, category=""),
        limits=Limits(window=16, chunk=64, context=4096, sessions=3, draft_depth=0, credit=0),
        rates=_rates(number),
        forecast=(2_400_000, 2_600_000),
        prompt_us=400,
        position_us=900,
        late_us=2_500,
        energy=EnergyClaim(
            millijoules_in=30,
            millijoules_out=50,
            source=Provenance.MODEL,
            tariff_micro_per_kwh=80_000,
            pue_milli=1_250,
            carbon_g_per_kwh=None,
            batch=1,
        ),
        jurisdiction="IS",
        region="IS-1",
        addresses=(f"/ip4/192.0.2.{number + 1}/tcp/4001/p2p/{peer_id_of(key.public_key)}",),
        data_addresses=(f"/ip4/192.0.2.{number + 1}/tcp/4002/tls",),
        statements=(seal(statement, STRANGER),),
    )


def sealed_offer(number: int, span: tuple[int, int], *, activations: ActivationType, credit: int = 0) -> bytes:
    """The offer of a provider for some blocks, as it would come by gossip."""
    plain = offer_of(number, span)
    offer = plain.replace(activations=(activations,), limits=plain.limits.replace(credit=credit))
    return seal(offer, PROVIDERS[number])

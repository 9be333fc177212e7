"""What a client settles for its jobs (`joule run` and all that asks or pays)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.setting_kinds import Choice, Fixed, Jurisdictions, Text, Whole
from node.settings import setting

__all__ = ["ClientConfig"]

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A client's settings (`joule offers`, `joule run`, `joule balance`)."""

    ledger: str = shared.ledger()
    peers: tuple[str, ...] = shared.peers()
    witnesses: tuple[str, ...] = shared.witnesses()
    min_witnesses: int = shared.min_witnesses()
    max_checkpoint_age_s: int = shared.max_checkpoint_age_s()

    max_tokens: int = setting(
        Whole("tokens", 1, 1_000_000), table="job", default=128, about="Tokens to generate at most."
    )
    temperature_milli: int = setting(
        Fixed("degrees of randomness", 3, "0", "10"),
        name="temperature",
        table="job",
        default=0,
        about="How freely tokens are drawn. 0 always takes the likeliest.",
    )
    seed: int = setting(
        Whole("number", 0, _MOST),
        table="job",
        default=0,
        about="Fixes the draw: the same prompt, seed and model give the same text.",
    )
    window: int = setting(
        Whole("tokens", 1, 4_096),
        table="job",
        default=16,
        about="Generated tokens that may be served before they are paid for. Providers refuse a large one.",
    )
    standbys: int = setting(
        Whole("nodes", 0, 8),
        table="job",
        default=0,
        about="Nodes that are reserved besides the route, to take over from one that fails without a new session. Each "
        "costs its opening charge; without any, a failed answer goes on in a new session.",
    )
    session_s: int = setting(
        Whole("seconds", 5, 86_400),
        table="job",
        default=900,
        about="How long a job may take. What a provider that vanished left reserved is had back after this time and "
        "the ledger's grace.",
    )

    drafts: str = setting(
        Choice(("auto", "never")),
        table="job",
        default="auto",
        about="Whether tokens may be guessed ahead where all legs verify: auto or never. The answer is the same.",
    )

    allow: tuple[str, ...] = setting(
        Jurisdictions(),
        table="policy",
        default=(),
        about="Countries where machines may stand; anywhere when left empty.",
    )
    deny: tuple[str, ...] = setting(
        Jurisdictions(), table="policy", default=(), about="Countries where machines must not stand."
    )
    max_price_in_micro: int | None = setting(
        shared.PER_MILLION,
        name="max_price_in",
        table="policy",
        default=None,
        example="1.00",
        about="Most to pay for prompt tokens over the whole route. No limit when left out.",
    )
    max_price_out_micro: int | None = setting(
        shared.PER_MILLION,
        name="max_price_out",
        table="policy",
        default=None,
        example="2.00",
        about="Most to pay for generated tokens over the whole route. No limit when left out.",
    )
    latency_class: str = setting(
        Choice(("batch", "chat", "voice", "metro", "device")),
        table="policy",
        default="chat",
        about="How soon tokens are needed: batch 2-10 s, chat 0.5-1 s, voice 100-300 ms, metro below 50 ms. "
        "Device jobs (below 20 ms) are refused: nothing across a network is that fast.",
    )
    min_evidence: str = setting(
        Choice(("claimed", "rtt_consistent", "rtt_proven", "attested")),
        table="policy",
        default="claimed",
        about="Least evidence of where a provider stands, in rising order.",
    )
    min_stake_micro: int = setting(
        Fixed("$", 6, "0", "1000000000"),
        name="min_stake",
        table="policy",
        default=0,
        about="Least stake of every provider.",
    )
    precision: str | None = setting(
        Text("a precision's name, such as fp32", pattern="[a-z0-9_-]{1,16}"),
        table="policy",
        default=None,
        example='"fp32"',
        about="The number format to insist on. The model's own when left out.",
    )
    latency_weight_micro_per_ms: int = setting(
        Fixed("$ per million tokens for each millisecond", 6, "0", "10"),
        name="latency_weight",
        table="policy",
        default=1_000,
        about="What a millisecond less per token is worth when routes are compared.",
    )

    key: str = shared.key()
    data_dir: Path = shared.data_dir()
    log_level: str = shared.log_level("warning")

"""What a client settles for its jobs (`joule run` and all that asks or pays)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.settings import setting
from node.settings.kinds import Biases, Choice, Fixed, Text, Whole
from node.settings.law import (
    MOST_CARBON,
    TEN_YEARS_S,
    Addresses,
    Anchors,
    Corridors,
    Ground,
    Place,
    SignedFiles,
    Words,
)
from node.settings.places import Jurisdictions, VenuePlace
from protocol.policy.trust import MAX_TRUSTED

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
    confirmations: int = shared.confirmations()
    max_gas_price_wei: int = shared.max_gas_price_wei()
    coin_price_micro: int = shared.coin_price_micro()

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
    top_p_ppm: int = setting(
        Fixed("of the probability", 6, "0", "1"),
        name="top_p",
        table="job",
        default=1_000_000,
        about="Only the likeliest tokens are drawn that have this much of the probability together. 1 leaves out none.",
    )
    top_k: int = setting(
        Whole("tokens", 0, 1 << 24),
        table="job",
        default=0,
        about="Only so many of the likeliest tokens are drawn. 0 leaves out none.",
    )
    repetition_penalty_milli: int = setting(
        Fixed("times", 3, "0.1", "10"),
        name="repetition_penalty",
        table="job",
        default=1_000,
        about="Tokens that are in the prompt or the answer are less likely: logits above 0 are divided by this, others "
        "multiplied. 1 changes nothing. The last leg is told which tokens the prompt has.",
    )
    presence_penalty_milli: int = setting(
        Fixed("of a logit", 3, "-2", "2"),
        name="presence_penalty",
        table="job",
        default=0,
        about="What the logits of tokens lose that are in the answer already.",
    )
    frequency_penalty_milli: int = setting(
        Fixed("of a logit", 3, "-2", "2"),
        name="frequency_penalty",
        table="job",
        default=0,
        about="What the logits of tokens lose for each time that they are in the answer already.",
    )
    logit_bias: tuple[tuple[int, int], ...] = setting(
        Biases(),
        table="job",
        default=(),
        about="What is added to the logits of single tokens, such as 15:-100 for token id 15.",
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
    receipt_text: str = setting(
        Choice(("kept", "withheld")),
        table="job",
        default="kept",
        about="Whether receipts hold prompt and answer. Withheld, they prove the job, its payment and its law by the "
        "hashes that the legs signed for; no spot check can be made of them.",
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
        about="Countries, parts of them or blocs where machines may stand; anywhere when left empty.",
    )
    deny: tuple[str, ...] = setting(
        Jurisdictions(),
        table="policy",
        default=(),
        about="Countries, parts of them or blocs where machines must not stand.",
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
    min_operator_bond_micro: int = setting(
        Fixed("$", 6, "0", "1000000000"),
        name="min_operator_bond",
        table="trust",
        default=0,
        about="What the ledger's operator must have at stake before a session is opened there: two histories cost him "
        "that. 0 asks for none.",
    )
    operator_bond_at: str | None = setting(
        VenuePlace(),
        table="trust",
        default=None,
        example='"evm:8453:0x5FbDB2315678afecb367f032d93F642f64180aa3@https://rpc.example"',
        about="Where that stake has to lie: a contract on a chain, or another ledger. Left out, the ledger itself, "
        "where the operator could leave its own penalty out.",
    )
    precision: str | None = setting(
        Text("a precision's name, such as fp32", pattern="[a-z0-9_-]{1,16}"),
        table="policy",
        default=None,
        example='"fp32"',
        about="The number format to insist on. The model's own when left out.",
    )
    origin: str | None = setting(
        Place(),
        table="policy",
        default=None,
        example='"DE"',
        about="Where the data in prompts come from. They leave that country by corridors only. Left out, they may go "
        "wherever machines may stand.",
    )
    purpose: str = setting(
        Text("a word of a-z, 0-9 and hyphens", metavar="WORD", pattern=r"[a-z0-9-]{1,96}"),
        table="policy",
        default="inference",
        about="What the data are used for: corridors for another purpose are closed.",
    )
    corridors: tuple[str, ...] = setting(
        Corridors(),
        table="policy",
        default=(),
        flag="--corridor",
        about="Which ways data may go besides, each for a purpose and until a day.",
    )
    deny_hardware: tuple[str, ...] = setting(
        Words(what="categories of hardware"),
        table="policy",
        default=(),
        about="Categories of hardware that are not wanted. Providers that do not say theirs are left out, too.",
    )
    deny_lists: tuple[str, ...] = setting(
        SignedFiles(),
        table="policy",
        default=(),
        flag="--deny-list",
        about="Signed lists of operators, places and hardware that are not to be used, each with its signer's address.",
    )
    max_retention_s: int | None = setting(
        Whole("seconds", 0, TEN_YEARS_S),
        table="policy",
        default=None,
        example="0",
        about="How long providers may keep prompts and answers after a job. No limit when left out.",
    )
    training: str = setting(
        Choice(("allowed", "forbidden")),
        table="policy",
        default="allowed",
        about="Whether providers may train models on prompts and answers.",
    )
    max_carbon_g_per_kwh: int | None = setting(
        Whole("grams of CO2 per kWh", 0, MOST_CARBON),
        table="policy",
        default=None,
        example="100",
        about="Most that a provider's power supply may emit. Providers that do not say are left out, too.",
    )
    licenses: tuple[str, ...] = setting(
        Words(what="licences as models' manifests write them"),
        table="policy",
        default=(),
        about="Licences that a model may be under; any when left empty.",
    )

    stands_at: str | None = setting(
        Ground(),
        table="trust",
        default=None,
        example='"52.52,13.40"',
        about="Where this machine is: then what it measures itself excludes places that light does not reach in time. "
        "It stays in your receipts; providers do not learn it.",
    )
    anchors: tuple[str, ...] = setting(
        Anchors(),
        table="trust",
        default=(),
        flag="--anchor",
        about="Machines whose place you know: round trips that they sign for count as evidence.",
    )
    lying_anchors: int = setting(
        Whole("anchors", 0, MAX_TRUSTED),
        table="trust",
        default=0,
        about="How many of them may lie: one more than that has to say the same.",
    )
    attestors: tuple[str, ...] = setting(
        Addresses(),
        table="trust",
        default=(),
        flag="--attestor",
        about="Parties whose signature for a machine's place you accept.",
    )
    trusted_ends: tuple[str, ...] = setting(
        Addresses(),
        table="trust",
        default=(),
        flag="--trusted-end",
        about="Providers that alone may serve the first and the last blocks, where token ids are seen: your own nodes, "
        "or operators whom you trust. Anybody may when left out. Nobody learns whom you trust.",
    )
    end_blocks: int = setting(
        Whole("blocks", 1, 255),
        table="trust",
        default=1,
        about="How many of the first, and how many of the last blocks only trusted_ends may serve.",
    )
    latency_weight_micro_per_ms: int = setting(
        Fixed("$ per million tokens for each millisecond", 6, "0", "10"),
        name="latency_weight",
        table="policy",
        default=1_000,
        about="What a millisecond less per token is worth when routes are compared.",
    )
    carbon_price_micro: int = setting(
        Fixed("$ per ton of CO2 equivalent", 6, "0", "10000"),
        name="carbon_price",
        table="policy",
        default=0,
        about="What the carbon of power is taken to cost when routes, and hours to work in, are compared. Nobody is "
        "paid it; it counts towards max_price_in and max_price_out. Who does not say counts as twice the dirtiest.",
    )

    key: str = shared.key()
    data_dir: Path = shared.data_dir()
    otlp: str | None = shared.otlp()
    log_level: str = shared.log_level("warning")

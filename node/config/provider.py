"""What a provider settles (`joule node run`)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import meters, prices, shared
from node.settings import setting
from node.settings.kinds import Choice, Fixed, Folder, Layers, Span, Text, Whole
from node.settings.law import TEN_YEARS_S, Paths, Places
from node.settings.models import Mirrors, ModelPlace
from node.settings.places import Country, Destination, Multiaddrs
from protocol.geography.jurisdictions import UNDECLARED

__all__ = ["NodeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A provider's settings (`joule node run`)."""

    model: Path = setting(
        ModelPlace(),
        table="model",
        example='"/path/to/model"',
        about="Directory of the model, as Hugging Face saves it: config.json, tokenizer and safetensors. Or its name "
        "in a catalogue, or its root: then what the blocks need is fetched, from peers and mirrors.",
    )
    mirrors: tuple[str, ...] = setting(
        Mirrors(),
        table="model",
        default=(),
        flag="--mirror",
        about="Where a named model's files lie, beside the peers that serve it: web addresses, and directories.",
    )
    blocks: tuple[int, int] | str | None = setting(
        Span(),
        table="model",
        default=None,
        example='"0:2"',
        about="The blocks to serve; all of them when left out. With auto, those that the market lacks most, and others "
        "when that changes.",
    )
    max_blocks: int | None = setting(
        Whole("blocks", 1, 1_024),
        table="model",
        default=None,
        example="8",
        about="How many to serve at most, with blocks = auto. Left out, as many as half of the machine's memory holds.",
    )
    rebalance_s: int = setting(
        Whole("seconds", 0, 86_400),
        name="rebalance",
        table="model",
        default=300,
        about="How often to look whether other blocks are lacking more, with blocks = auto. Nodes that say the same "
        "look at the same time, and agree; 0 stays with the first choice.",
    )
    precision: str = setting(
        Choice(("fp32", "bf16", "int8", "int4")),  # `protocol.models.precisions`, which loads numpy
        table="model",
        default="fp32",
        about="What is sold. Each is a product of its own: int8 and int4 need a directory with such weights, and "
        "compute in fp32; there is no spot check for bf16 yet.",
    )

    ledger: str = shared.ledger()
    peers: tuple[str, ...] = shared.peers()
    witnesses: tuple[str, ...] = shared.witnesses()
    min_witnesses: int = shared.min_witnesses()
    max_checkpoint_age_s: int = shared.max_checkpoint_age_s()
    confirmations: int = shared.confirmations()
    max_gas_price_wei: int = shared.max_gas_price_wei()
    coin_price_micro: int = shared.coin_price_micro()
    listen: str = shared.listen()
    announce: tuple[str, ...] = shared.announce()
    data_host: str = setting(
        shared.HOST,
        table="network",
        default="127.0.0.1",
        about="Where to listen for activations (TLS). Clients and neighbours dial it directly.",
    )
    data_port: int = setting(
        shared.PORT, table="network", default=0, about="The port for activations; 0 is any free one."
    )
    data_announce: str | None = setting(
        shared.HOST,
        table="network",
        default=None,
        example='"203.0.113.7"',
        about="The host that others dial for activations, if not data_host: needed behind 0.0.0.0 or a port forward.",
    )
    upload_kb_per_s: int = setting(
        Whole("kB per second", 0, 100_000_000),
        name="upload",
        table="network",
        default=20_000,
        about="What may go to nodes that fetch this model's weights; one that was of no use here yet gets a quarter "
        "of it at most. 0 hands out none.",
    )

    jurisdiction: str = setting(
        Country(),
        table="place",
        default=UNDECLARED,
        about="Where the machine stands. It is published as claimed, without proof. ZZ declares nothing, "
        "and is not used by clients whose policy names countries.",
    )
    region: str | None = setting(
        Text("an ISO 3166-2 code of that country", metavar="CODE", pattern=r"[A-Z]{2}-[A-Z0-9]{1,3}"),
        table="place",
        default=None,
        example='"DE-BE"',
        about="Where in that country. Clients may allow or deny single regions; left out, the machine may be in any.",
    )
    places: tuple[str, ...] = setting(
        Places(),
        table="place",
        default=(),
        flag="--place",
        about="Where else machines stand that serve these blocks under this key. A policy must hold for all of them.",
    )
    retention_s: int = setting(
        Whole("seconds", 0, TEN_YEARS_S),
        table="place",
        default=0,
        about="How long prompts, answers and activations may be kept here after a job. This program keeps none; say "
        "what your machines, logs and backups do. You are bound by it in each job.",
    )
    trains: str = setting(
        Choice(("no", "yes")),
        table="place",
        default="no",
        about="Whether models may be trained on what is kept. You are bound by it in each job.",
    )
    anchors: tuple[str, ...] = setting(
        Multiaddrs(),
        table="place",
        default=(),
        flag="--anchor",
        about="Machines that are asked to time this one, for clients who want more than its word on where it stands.",
    )
    times_others: str = setting(
        Choice(("no", "yes")),
        table="place",
        default="no",
        about="Whether this node is an anchor as well: it times nodes that ask for it, and signs for how long they "
        "took. Clients who know where it stands then judge by it where others do.",
    )
    statements: tuple[str, ...] = setting(
        Paths(),
        table="place",
        default=(),
        flag="--statement",
        about="Signed statements on where it stands, as `joule attest` writes them, for its offers.",
    )
    hardware_category: str = setting(
        Text("a word of at most 32 letters", metavar="WORD", pattern=r"[a-z0-9-]{0,32}"),
        table="place",
        default="",
        about="What kind of machine this is, such as consumer or datacenter, for policies on export and the like.",
    )

    energy_price_micro_per_kwh: int = setting(
        Fixed("$ per kWh", 6, "0", "25"),
        name="energy_price",
        table="energy",
        default=100_000,
        reloadable=True,
        about="What a kilowatt-hour costs.",
    )
    pue_milli: int = setting(
        Fixed("watts drawn for each watt computed with", 3, "1", "10"),
        name="pue",
        table="energy",
        default=1_000,
        reloadable=True,
        about="Power usage effectiveness: what cooling and conversion add.",
    )
    millijoules_per_token: int | None = setting(
        Fixed("joules", 3, "0.001", "10000"),
        name="joules_per_token",
        table="energy",
        default=None,
        example="10.8",
        about="Energy of one token through the served blocks, as declared. Left out, it is measured, "
        "or modelled where nothing can be measured.",
    )
    milliwatts_per_core: int = setting(
        Fixed("watts", 3, "0.1", "1000"),
        name="watts_per_core",
        table="energy",
        default=10_000,
        about="What one busy core draws, for the modelled figure where there is no meter.",
    )
    meter: str = meters.meter()
    meter_url: str | None = meters.meter_url()
    meter_path: str = meters.meter_path()
    meter_unit: str = meters.meter_unit()
    meter_command: str | None = meters.meter_command()
    meter_error_ppm: int | None = meters.meter_error_ppm()
    device_milliwatts: int | None = meters.device_milliwatts()
    device_mflop_per_s: int | None = meters.device_mflop_per_s()
    device_kb_per_s: int | None = meters.device_kb_per_s()
    carbon_g_per_kwh: int | None = setting(
        Whole("grams of CO2 per kWh", 0, 5_000),
        table="energy",
        default=None,
        example="380",
        reloadable=True,
        about="Carbon intensity of the supply. Left out, it is published as unknown.",
    )

    tariff: Path | None = setting(
        Folder(metavar="FILE"),
        table="energy",
        default=None,
        example='"tariff.toml"',
        about="What power costs from hour to hour: a file with a table, a feed and what comes on top. It is read again "
        "when it has changed. Left out, energy_price holds at all hours.",
    )
    pause_above_micro_per_kwh: int | None = setting(
        Fixed("$ per kWh", 6, "0", "25"),
        name="pause_above",
        table="energy",
        default=None,
        example="0.45",
        reloadable=True,
        about="Above this price of power the node takes no jobs: it withdraws its offer, and ends what runs.",
    )
    power_cap_w: int | None = setting(
        Fixed("kW", 3, "0.001", "1000000"),
        name="power_cap",
        table="energy",
        default=None,
        example="2.5",
        reloadable=True,
        about="What the node may draw at the meter: it takes no more jobs at once than stay below it, each counted as "
        "if it ran alone.",
    )
    carbon_price_micro: int = setting(
        Fixed("$ per tonne of CO2", 6, "0", "10000"),
        name="carbon_price",
        table="energy",
        default=0,
        reloadable=True,
        about="What a tonne of CO2 costs you, in a tax or in your own books: part of the floor.",
    )

    overhead_price_micro: int = prices.overhead_price_micro()
    capital_price_micro: int = prices.capital_price_micro()
    margin_percent: int = prices.margin_percent()
    margin_policy: str = prices.margin_policy()
    undercut_ppm: int = prices.undercut_ppm()
    hardware_price_micro: int | None = prices.hardware_price_micro()
    target_use_percent: int = prices.target_use_percent()
    requote_s: int = prices.requote_s()
    requote_above_ppm: int = prices.requote_above_ppm()
    opening_price_micro: int = prices.opening_price_micro()
    cached_price_percent: int = prices.cached_price_percent()
    late_discount_percent: int = prices.late_discount_percent()
    credit_tokens: int = prices.credit_tokens()

    settle_fee_share_ppm: int = setting(
        shared.FEE_SHARE,
        name="settle_fee_share",
        table="money",
        default=shared.DEFAULT_FEE_SHARE_PPM,
        about="What the ledger's fee may be of the claims that it redeems, as long as there is time. Smaller ones wait "
        "for others to share an operation with, until their session has expired.",
    )
    payout: str | None = setting(
        Destination(),
        table="money",
        default=None,
        example='"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"',
        about="Where to send what is earned: an address that is kept elsewhere, or what tells the ledger's operator "
        "where to pay. Left out, it stays on the ledger.",
    )
    payout_above_micro: int = setting(
        Fixed("$", 6, "0", "1000000000"),
        name="payout_above",
        table="money",
        default=1_000_000,
        about="What stays on the ledger: free money above it is sent to payout, once an hour at most.",
    )

    kv_tokens: int = setting(
        Whole("tokens", 16, 2**31 - 1),
        table="capacity",
        default=16_384,
        about="Room in the attention cache, over all sessions together.",
    )
    overcommit_percent: int = setting(
        Whole("%", 100, 1_000),
        name="overcommit",
        table="capacity",
        default=100,
        about="Tokens that jobs may be promised in all, in percent of kv_tokens. Above 100 a job takes room as its "
        "answer grows: more fit in, for most answers stop early. Where room runs out, batch jobs and the newest wait.",
    )
    max_sessions: int = setting(
        Whole("sessions", 1, 4_096),
        table="capacity",
        default=16,
        reloadable=True,
        about="Jobs served at the same time; clients that never paid here share half of the places.",
    )
    window: int = setting(
        Whole("tokens", 1, 4_096),
        table="capacity",
        default=16,
        reloadable=True,
        about="Most generated tokens to serve before they are paid for; orders with a larger window are refused.",
    )
    chunk: int = setting(
        Whole("tokens", 16, 65_536),
        table="capacity",
        default=512,
        about="Most prompt tokens to serve before they are paid for, and most rows in one pass; "
        "a graphics card likes more.",
    )
    stretch: int = setting(
        Whole("times", 0, 1_000),
        table="capacity",
        default=3,
        reloadable=True,
        about="How many times as long a pass may take as one of answers alone, when prompts run with them. "
        "Less is smoother for running answers, more is sooner for long prompts; 0 sets no bound.",
    )
    wait_ms: int = setting(
        Fixed("seconds", 3, "0.1", "60"),
        name="wait",
        table="capacity",
        default=5_000,
        reloadable=True,
        about="How long the first part of a new job's prompt may wait for other prompts. An order that would wait "
        "longer is refused, and told when to come back.",
    )
    warm_s: int = setting(
        Whole("seconds", 0, 86_400),
        table="capacity",
        default=1_800,
        reloadable=True,
        about="How long a session that is over stays in the attention cache, where nobody needs the room, so that its "
        "client can go on from there.",
    )
    drafter: str = setting(
        Choice(("none", "ngram", "model", "layers")),
        table="drafts",
        default="ngram",
        about="What guesses ahead where this node serves the first block: the text itself, a smaller model, or some "
        "layers of the model. Wrong guesses change no answer, and where they do not pay, they stop.",
    )
    draft_model: Path | None = setting(
        Folder(),
        table="drafts",
        default=None,
        example='"/path/to/small/model"',
        about="Directory of the smaller model, with the same tokenizer.json, for drafter = model.",
    )
    draft_layers: tuple[int, ...] | None = setting(
        Layers(),
        table="drafts",
        default=None,
        example='"0,2,5"',
        about="The layers for drafter = layers; half of them, evenly spread, when left out.",
    )
    draft_depth: int = setting(
        Whole("tokens", 0, 32),
        table="drafts",
        default=15,
        reloadable=True,
        about="Most guessed tokens to verify in one pass, whoever guessed them. 0 takes no guesses; with more than 15 "
        "a pass of many sessions may take them in pieces.",
    )
    threads: int = setting(
        Whole("threads", 1, 1_024), table="capacity", default=1, about="Compute threads of the engine."
    )

    key: str = shared.key()
    data_dir: Path = shared.data_dir()
    metrics_port: int | None = shared.metrics_port()
    otlp: str | None = shared.otlp()
    log_level: str = shared.log_level("info")
    log_format: str = shared.log_format()

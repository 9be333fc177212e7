"""What a provider settles (`joule node run`)."""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config import shared
from node.law_settings import TEN_YEARS_S, Paths, Places
from node.setting_kinds import (
    Choice,
    Country,
    Destination,
    Fixed,
    Folder,
    Layers,
    MeterUnit,
    Multiaddrs,
    Span,
    Text,
    WebAddress,
    Whole,
)
from node.settings import setting
from protocol.jurisdictions import UNDECLARED

__all__ = ["NodeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A provider's settings (`joule node run`)."""

    model: Path = setting(
        Folder(),
        table="model",
        example='"/path/to/model"',
        about="Directory of the model, as Hugging Face saves it: config.json, tokenizer and safetensors.",
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
        Choice(("fp32", "bf16")),
        table="model",
        default="fp32",
        about="The number format to compute in. Each is a product of its own; there is no spot check for bf16 yet.",
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
    meter: str = setting(
        Choice(
            ("auto", "shelly", "tasmota", "http", "command", "nvml", "amd", "apple", "rapl", "processor", "roofline")
        ),
        table="energy",
        default="auto",
        about="What is read: a plug (shelly, tasmota, or http for any that answers JSON), a command, a counter of the "
        "machine (nvml, amd, apple, rapl; extra energy), or a model (processor time, or a device's roofline). auto is "
        "the machine's best counter, else processor time.",
    )
    meter_url: str | None = setting(
        WebAddress(),
        table="energy",
        default=None,
        example='"http://192.168.1.20"',
        about="Where the plug answers: its address, or for http the whole URL of the JSON.",
    )
    meter_path: str = setting(
        Text("names and indices with dots between them", metavar="PATH", pattern=r".{0,200}"),
        table="energy",
        default="",
        about="Where the number stands: names and indices with dots between them, + between several that are added up. "
        "For a command that prints no JSON, the text before the number; for a plug with several meters, which one.",
    )
    meter_unit: str = setting(
        MeterUnit(),
        table="energy",
        default="W",
        about="What http or a command says: power (W, kW, mW) or a counter (J, mJ, kJ, MJ, Wh, mWh, kWh, Wmin).",
    )
    meter_command: str | None = setting(
        Text("a command line", metavar="COMMAND"),
        table="energy",
        default=None,
        example='"ipmitool dcmi power reading"',
        about="Prints the number, for meter = command: a program and its arguments, without a shell.",
    )
    meter_error_ppm: int | None = setting(
        Fixed("percent", 4, "0.0001", "50"),
        name="meter_error",
        table="energy",
        default=None,
        example="2",
        about="How far the meter may be off, as its maker says. Left out, it is shown as unknown.",
    )
    device_milliwatts: int | None = setting(
        Fixed("watts", 3, "0.1", "100000"),
        name="device_watts",
        table="energy",
        default=None,
        example="350",
        about="What the device draws at work, for meter = roofline.",
    )
    device_mflop_per_s: int | None = setting(
        Fixed("TFLOP/s", 6, "0.000001", "100000"),
        name="device_tflops",
        table="energy",
        default=None,
        example="312",
        about="Its arithmetic in the precision that is served, for meter = roofline.",
    )
    device_kb_per_s: int | None = setting(
        Fixed("GB/s", 6, "0.001", "1000000"),
        name="device_gb_per_s",
        table="energy",
        default=None,
        example="2039",
        about="Its memory traffic, for meter = roofline.",
    )
    carbon_g_per_kwh: int | None = setting(
        Whole("grams of CO2 per kWh", 0, 5_000),
        table="energy",
        default=None,
        example="380",
        reloadable=True,
        about="Carbon intensity of the supply. Left out, it is published as unknown.",
    )

    overhead_price_micro: int = setting(
        shared.PER_MILLION,
        name="overhead_price",
        table="price",
        default=0,
        reloadable=True,
        about="Cost besides energy, part of the floor that no job goes below.",
    )
    capital_price_micro: int = setting(
        shared.PER_MILLION,
        name="capital_price",
        table="price",
        default=20_000,
        reloadable=True,
        about="Share of what the hardware cost, asked above the floor.",
    )
    margin_percent: int = setting(
        Whole("percent of the floor", 0, 400),
        name="margin",
        table="price",
        default=20,
        reloadable=True,
        about="Profit asked above the floor.",
    )
    opening_price_micro: int = setting(
        Fixed("$ per job", 6, "0", "1000"),
        name="opening_price",
        table="price",
        default=1,
        reloadable=True,
        about="What taking a job costs, however little is asked for then: places are not for nothing.",
    )
    cached_price_percent: int = setting(
        Whole("percent of a prompt token's price", 0, 100),
        name="cached_price",
        table="price",
        default=10,
        reloadable=True,
        about="What a token costs that is still in the attention cache, from a session that the job goes on from.",
    )
    late_discount_percent: int = setting(
        Whole("percent of the price", 0, 100),
        name="late_discount",
        table="price",
        default=0,
        reloadable=True,
        about="By how much generated tokens are cheaper that came later than the offer says.",
    )
    credit_tokens: int = setting(
        Whole("tokens", 0, 4_096),
        name="credit",
        table="price",
        default=0,
        reloadable=True,
        about="Generated tokens to serve before they are paid, for clients without history here; at most a window.",
    )

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
    log_level: str = shared.log_level("info")

"""Every setting of the node, the ledger and the client: what it means, its unit, its bounds and its default.

Money is held in micro-units, fractions in thousandths, energy in millijoules, and the fields say so: the file and the
flags take the decimal numbers that people write, under names without the unit. What `reloadable` settings say is taken
over by a node that runs, on SIGHUP. `node.settings` reads and writes these declarations.
"""

# ruff: noqa: RUF009 - `setting` makes a dataclass field, as `dataclasses.field` does
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from node.events import Level
from node.setting_kinds import Choice, Country, Fixed, Folder, Jurisdictions, Multiaddrs, Span, Text, WebAddress, Whole
from node.settings import setting
from protocol.jurisdictions import UNDECLARED

__all__ = ["ClientConfig", "LedgerConfig", "NodeConfig", "default_data_dir"]

DEFAULT_LEDGER = "http://127.0.0.1:8645"
_MOST = 2**63 - 1
_KEY_NAME = Text("a key's name, or the path of a keystore file", metavar="NAME|PATH")
_MULTIADDR = Text("a multiaddr", metavar="MULTIADDR", pattern=r"(/[^/\s]+)+")
_HOST = Text("a host name or IP address", metavar="HOST", pattern=r"[0-9A-Za-z.:%_-]+")
_PORT = Whole("port", 0, 65535, metavar="PORT")
_PER_MILLION = Fixed("$ per million tokens", 6, "0", "1000000")


def default_data_dir() -> Path:
    """Where keys and state are kept: ``JOULE_HOME``, else the platform's folder for user data."""
    import platformdirs

    home = os.environ.get("JOULE_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("joulemesh", appauthor=False)


def _data_dir() -> Path:
    return setting(  # type: ignore[no-any-return]
        Folder(),
        table="local",
        about="Where keys and state are kept.",
        factory=default_data_dir,
        example='"~/.local/share/joulemesh"',
        variable="JOULE_HOME",
    )


def _key() -> str:
    return setting(  # type: ignore[no-any-return]
        _KEY_NAME, table="local", default="default", about="The key to act with: its name in the keystore, or a file."
    )


def _log_level(default: str) -> str:
    return setting(  # type: ignore[no-any-return]
        Choice(tuple(level.word for level in Level)),
        table="local",
        default=default,
        reloadable=True,
        about="How much is told: everything, what happens, what may be wrong, or what is.",
    )


def _peers() -> tuple[str, ...]:
    return setting(  # type: ignore[no-any-return]
        Multiaddrs(),
        table="network",
        default=(),
        flag="--peer",
        about="Further peers to join the gossip through. The ledger's own peer is always tried.",
    )


def _listen() -> str:
    return setting(  # type: ignore[no-any-return]
        _MULTIADDR,
        table="network",
        default="/ip4/127.0.0.1/tcp/0",
        about="Where to listen for libp2p peers. The default is heard on this machine only; port 0 is any free one.",
    )


def _announce() -> tuple[str, ...]:
    return setting(  # type: ignore[no-any-return]
        Multiaddrs(),
        table="network",
        default=(),
        example='["/ip4/203.0.113.7/tcp/4001"]',
        about="Where others reach the libp2p host, if not where it listens: needed behind 0.0.0.0 or a port forward.",
    )


def _ledger() -> str:
    return setting(  # type: ignore[no-any-return]
        WebAddress(), table="network", default=DEFAULT_LEDGER, about="The ledger that jobs are settled on."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """A provider's settings (`joule node run`)."""

    model: Path = setting(
        Folder(),
        table="model",
        example='"/path/to/model"',
        about="Directory of the model, as Hugging Face saves it: config.json, tokenizer and safetensors.",
    )
    blocks: tuple[int, int] | None = setting(
        Span(), table="model", default=None, example='"0:2"', about="The blocks to serve; all of them when left out."
    )
    precision: str = setting(
        Choice(("fp32", "bf16")),
        table="model",
        default="fp32",
        about="The number format to compute in. Each is a product of its own; there is no spot check for bf16 yet.",
    )

    ledger: str = _ledger()
    peers: tuple[str, ...] = _peers()
    listen: str = _listen()
    announce: tuple[str, ...] = _announce()
    data_host: str = setting(
        _HOST,
        table="network",
        default="127.0.0.1",
        about="Where to listen for activations (TLS). Clients and neighbours dial it directly.",
    )
    data_port: int = setting(_PORT, table="network", default=0, about="The port for activations; 0 is any free one.")
    data_announce: str | None = setting(
        _HOST,
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
    carbon_g_per_kwh: int | None = setting(
        Whole("grams of CO2 per kWh", 0, 5_000),
        table="energy",
        default=None,
        example="380",
        reloadable=True,
        about="Carbon intensity of the supply. Left out, it is published as unknown.",
    )

    overhead_price_micro: int = setting(
        _PER_MILLION,
        name="overhead_price",
        table="price",
        default=0,
        reloadable=True,
        about="Cost besides energy, part of the floor that no job goes below.",
    )
    capital_price_micro: int = setting(
        _PER_MILLION,
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
    threads: int = setting(
        Whole("threads", 1, 1_024), table="capacity", default=1, about="Compute threads of the engine."
    )

    key: str = _key()
    data_dir: Path = _data_dir()
    log_level: str = _log_level("info")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """An embedded ledger's settings (`joule ledger run`)."""

    name: str | None = setting(
        Text("a name of at most 40 bytes", metavar="NAME", pattern=r"[!-*,-~]{1,40}"),
        table="ledger",
        default=None,
        example='"ledger.example.org/main"',
        about="The log's origin: the name in its checkpoints. Left out, it follows from the operator's address. "
        "It cannot be changed once the ledger exists.",
    )
    database: str | None = setting(
        Text("a database URL", metavar="URL", pattern=r"[a-z]+(\+[a-z]+)?://\S*"),
        table="ledger",
        default=None,
        example='"postgresql://user@host/joulemesh"',
        about="Left out, a SQLite file in the data directory; else the URL of a SQLite or PostgreSQL database.",
    )
    host: str = setting(_HOST, table="ledger", default="127.0.0.1", about="Where to serve HTTP.")
    port: int = setting(_PORT, table="ledger", default=8645, about="The port to serve HTTP on; 0 is any free one.")
    grace_s: int = setting(
        Whole("seconds", 0, 90 * 24 * 3600),
        table="ledger",
        default=172_800,
        about="How long after a session's expiry its vouchers are still redeemed. It cannot be changed once the "
        "ledger exists.",
    )
    faucet_limit_micro: int = setting(
        Fixed("$ of play money per account", 6, "0", "1000000"),
        name="faucet_limit",
        table="ledger",
        default=0,
        about="What the faucet credits to each account at most. 0 switches it off; use it on local networks only. "
        "It cannot be changed once the ledger exists.",
    )
    fee_micro: int = setting(
        Fixed("$ per operation", 6, "0.000001", "1"),
        name="fee",
        table="ledger",
        default=1,
        about="What every accepted operation costs whoever submits it, paid to the operator, whose own are free. "
        "It keeps accounts without money from filling the log. It cannot be changed once the ledger exists.",
    )

    listen: str = _listen()
    announce: tuple[str, ...] = _announce()
    peers: tuple[str, ...] = _peers()
    key: str = _key()
    data_dir: Path = _data_dir()
    log_level: str = _log_level("info")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A client's settings (`joule offers`, `joule run`, `joule balance`)."""

    ledger: str = _ledger()
    peers: tuple[str, ...] = _peers()

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
    session_s: int = setting(
        Whole("seconds", 5, 86_400),
        table="job",
        default=900,
        about="How long a job may take. What a provider that vanished left reserved is had back after this time and "
        "the ledger's grace.",
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
        _PER_MILLION,
        name="max_price_in",
        table="policy",
        default=None,
        example="1.00",
        about="Most to pay for prompt tokens over the whole route. No limit when left out.",
    )
    max_price_out_micro: int | None = setting(
        _PER_MILLION,
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

    key: str = _key()
    data_dir: Path = _data_dir()
    log_level: str = _log_level("warning")

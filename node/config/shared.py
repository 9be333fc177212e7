"""What several configurations have in common: the kinds of their settings, and settings that read the same in each.

Each function but `default_data_dir` declares one setting, as `node.settings.setting` does.
"""

from __future__ import annotations

import os
from pathlib import Path

from node.events import Level
from node.settings import setting
from node.settings.kinds import Choice, Fixed, Folder, Text, Whole
from node.settings.places import Multiaddrs, VenuePlace
from node.settings.witnesses import KEYS_OF_WITNESSES
from protocol.log.cosignature import MAX_WITNESSES

__all__ = [
    "DEFAULT_FEE_SHARE_PPM",
    "FEE_SHARE",
    "HOST",
    "PER_MILLION",
    "PORT",
    "announce",
    "coin_price_micro",
    "confirmations",
    "data_dir",
    "default_data_dir",
    "key",
    "ledger",
    "listen",
    "log_format",
    "log_level",
    "max_checkpoint_age_s",
    "max_gas_price_wei",
    "metrics_port",
    "min_witnesses",
    "otlp",
    "peers",
    "witnesses",
]

HOST = Text("a host name or IP address", metavar="HOST", pattern=r"[0-9A-Za-z.:%_-]+")
PORT = Whole("port", 0, 65535, metavar="PORT")
FEE_SHARE = Fixed("percent of a claim", 4, "0.0001", "100")
DEFAULT_FEE_SHARE_PPM = 50_000
PER_MILLION = Fixed("$ per million tokens", 6, "0", "1000000")
_DEFAULT_LEDGER = "http://127.0.0.1:8645"
_KEY_NAME = Text("a key's name, or the path of a keystore file", metavar="NAME|PATH")
_MULTIADDR = Text("a multiaddr", metavar="MULTIADDR", pattern=r"(/[^/\s]+)+")


def default_data_dir() -> Path:
    """Where keys and state are kept: ``JOULE_HOME``, else the platform's folder for user data."""
    import platformdirs

    home = os.environ.get("JOULE_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("joulemesh", appauthor=False)


def data_dir() -> Path:
    return setting(  # type: ignore[no-any-return]
        Folder(),
        table="local",
        about="Where keys and state are kept.",
        factory=default_data_dir,
        example='"~/.local/share/joulemesh"',
        variable="JOULE_HOME",
    )


def key() -> str:
    return setting(  # type: ignore[no-any-return]
        _KEY_NAME, table="local", default="default", about="The key to act with: its name in the keystore, or a file."
    )


def log_level(default: str) -> str:
    return setting(  # type: ignore[no-any-return]
        Choice(tuple(level.word for level in Level)),
        table="local",
        default=default,
        reloadable=True,
        about="How much is told: everything, what happens, what may be wrong, or what is.",
    )


def log_format() -> str:
    return setting(  # type: ignore[no-any-return]
        Choice(("text", "json")),
        table="local",
        default="text",
        about="What a service prints of what happens: lines for people, or JSON objects, one a line, for programs, as "
        "--json does. Each job is one line.",
    )


def otlp() -> str | None:
    return setting(  # type: ignore[no-any-return]
        Text("a URL", metavar="URL", pattern=r"https?://\S{1,400}"),
        table="local",
        default=None,
        example='"http://127.0.0.1:4318/v1/traces"',
        about="Where traces of jobs are sent, to a collector of OpenTelemetry: ids, times and counts, no texts. None "
        "are when left out.",
    )


def metrics_port() -> int | None:
    return setting(  # type: ignore[no-any-return]
        PORT,
        table="local",
        default=None,
        example="9464",
        about="Where this machine finds figures for Prometheus, at /metrics; 0 is any free port. None are served when "
        "left out.",
    )


def peers() -> tuple[str, ...]:
    return setting(  # type: ignore[no-any-return]
        Multiaddrs(),
        table="network",
        default=(),
        flag="--peer",
        about="Further peers to join the gossip through. The ledger's own peer is always tried.",
    )


def listen() -> str:
    return setting(  # type: ignore[no-any-return]
        _MULTIADDR,
        table="network",
        default="/ip4/127.0.0.1/tcp/0",
        about="Where to listen for libp2p peers. The default is heard on this machine only; port 0 is any free one.",
    )


def announce() -> tuple[str, ...]:
    return setting(  # type: ignore[no-any-return]
        Multiaddrs(),
        table="network",
        default=(),
        example='["/ip4/203.0.113.7/tcp/4001"]',
        about="Where others reach the libp2p host, if not where it listens: needed behind 0.0.0.0 or a port forward.",
    )


def ledger() -> str:
    return setting(  # type: ignore[no-any-return]
        VenuePlace(),
        table="network",
        default=_DEFAULT_LEDGER,
        about="Where jobs are settled: a ledger's URL, or those of its front ends with commas between; or "
        "evm:CHAIN_ID:CONTRACT@RPC_URL for a contract on a chain.",
    )


def confirmations() -> int:
    return setting(  # type: ignore[no-any-return]
        Whole("blocks", 0, 10_000),
        table="chain",
        default=2,
        about="On a chain: blocks on top of the one that holds something, until it counts. The more, the safer from a "
        "reorganisation, and the longer until a session is open.",
    )


def max_gas_price_wei() -> int:
    return setting(  # type: ignore[no-any-return]
        Fixed("gwei", 9, "0.000000001", "1000000"),
        name="max_gas_price",
        table="chain",
        default=200 * 10**9,
        about="On a chain: what a gas may cost. Beyond it nothing is sent, and nothing that sticks is hurried.",
    )


def coin_price_micro() -> int:
    return setting(  # type: ignore[no-any-return]
        Fixed("$", 6, "0", "1000000000"),
        name="coin_price",
        table="chain",
        default=0,
        about="On a chain: what one of its coins is worth, by which gas is weighed against what an operation brings. 0 "
        "weighs nothing.",
    )


def witnesses() -> tuple[str, ...]:
    return setting(  # type: ignore[no-any-return]
        KEYS_OF_WITNESSES,
        table="network",
        default=(),
        flag="--witness",
        example='["witness.example.org+4109eee4+BP/C4hlu9U89p0XWeYeMM0MT53bnZSj3/htoUtC6lWwb"]',
        about="Keys of witnesses whose cosignatures on the ledger's checkpoints are trusted here; of one that signs "
        "with two keys, both.",
    )


def min_witnesses() -> int:
    return setting(  # type: ignore[no-any-return]
        Whole("witnesses", 0, MAX_WITNESSES),
        table="network",
        default=0,
        about="How many of them must have cosigned a checkpoint before something is begun on it: a session, work on "
        "somebody's evidence, a balance that is shown. 0 asks for none.",
    )


def max_checkpoint_age_s() -> int:
    return setting(  # type: ignore[no-any-return]
        Whole("seconds", 0, 30 * 24 * 3600),
        table="network",
        default=3_600,
        about="How old a cosignature may be to count; 0 for any age. A standby is shown evidence from when the session "
        "was opened, so this should not be shorter than sessions last.",
    )

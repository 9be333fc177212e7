"""What happens inside a node, a client and a ledger, as typed values: the command line prints them.

One frozen class for each event, grouped by who emits them. Names, levels and fields are what programs read with
``--json``, so they are kept stable; sentences are for people and may change.
"""

from node.events.base import Event, Events, Level, unheard
from node.events.buying import (
    Closed,
    DischargeRefused,
    Released,
    Retrying,
    SessionOpened,
    Settled,
    VoucherSigned,
)
from node.events.network import (
    CheckpointNotCompared,
    LedgerBack,
    LedgerContradiction,
    LedgerLost,
    NetworkBack,
    NetworkLost,
    OfferRefused,
    PeerUnreached,
)
from node.events.process import (
    LedgerReady,
    RestartNeeded,
    SettingsChanged,
    SettingsRefused,
    Starting,
    Stopped,
    Stopping,
)
from node.events.serving import (
    JobBegun,
    JobFailed,
    JobServed,
    KeyInUse,
    LinkRefused,
    NodeReady,
    OfferNotSent,
    OfferPublished,
    OfferSeen,
    OfferUnseen,
    OfferWithdrawn,
    OrderRefused,
    VoucherNotRedeemable,
    VoucherRedeemed,
)

__all__ = [
    "CheckpointNotCompared",
    "Closed",
    "DischargeRefused",
    "Event",
    "Events",
    "JobBegun",
    "JobFailed",
    "JobServed",
    "KeyInUse",
    "LedgerBack",
    "LedgerContradiction",
    "LedgerLost",
    "LedgerReady",
    "Level",
    "LinkRefused",
    "NetworkBack",
    "NetworkLost",
    "NodeReady",
    "OfferNotSent",
    "OfferPublished",
    "OfferRefused",
    "OfferSeen",
    "OfferUnseen",
    "OfferWithdrawn",
    "OrderRefused",
    "PeerUnreached",
    "Released",
    "RestartNeeded",
    "Retrying",
    "SessionOpened",
    "SettingsChanged",
    "SettingsRefused",
    "Settled",
    "Starting",
    "Stopped",
    "Stopping",
    "VoucherNotRedeemable",
    "VoucherRedeemed",
    "VoucherSigned",
    "unheard",
]

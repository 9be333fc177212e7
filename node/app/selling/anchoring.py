"""Anchors: a machine that times others and signs for it, and a node that has itself timed (market.md, clause M73).

A node may be an anchor for others: it has a key, a port and a place as well, and then proof of where machines stand
needs nobody who runs anything besides. What it says is as good as its clients' trust in it, which they state, and with
it how many anchors may lie. A busy node makes those that it times look further away, never nearer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from node.app.process.clock import clock
from node.app.process.measured import open_metrics
from node.app.process.services import shown_here
from node.config import AnchorConfig, NodeConfig
from node.events import AnchorReady, Events, PeerUnreached, Timed
from node.file_limit import raise_file_limit
from node.p2p.address import check_peer_address
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from node.ports import Clock
from node.signed_files import read_signed
from protocol.errors import ConfigurationError, JoulemeshError, MalformedError, PeerError
from protocol.identity.ids import checksum_address
from protocol.identity.peer_id import public_key_of
from protocol.identity.signing import SigningKey, address_of_public_key, open_envelope
from protocol.market.offer import Statement
from protocol.names import TIME_PROTOCOL
from protocol.policy.challenge import seal_time
from protocol.policy.residency import RTT_CLAIM

__all__ = ["Timings", "own_statements", "run_anchor", "serve_times", "time_others"]

AT_ONCE = 16
"""Peers that are timed together: more would wait for one another, and look further away than they are."""
RETRY_S = 30.0
"""A node asks an anchor again so soon that did not answer."""
NODES_WORD_S = 86_400
"""How long the word of a node counts that is an anchor."""
LEAST_S = 60.0
"""A node asks an anchor no more often than that."""


def serve_times(
    host: P2PHost, key: SigningKey, *, lasts_s: int, now: Clock, tell: Callable[[bytes, int], None] | None = None
) -> None:
    """Time whoever asks, and sign for it.

    Args:
        lasts_s: seconds that a statement counts for.
        tell: of a public key, and the microseconds that its holder took.
    """

    async def answer(asker: bytes, _question: bytes) -> bytes:
        us = await host.time(asker)
        if tell is not None:
            tell(asker, us)
        return seal_time(asker, us, key, now=now(), lasts_s=lasts_s)

    host.serve(
        TIME_PROTOCOL, answer, max_request=0, at_once=AT_ONCE, at_once_of_peer=1, timeout_s=15.0, rate=0.2, burst=5
    )


def _told(on_event: Events) -> Callable[[bytes, int], None]:
    def tell(public_key: bytes, us: int) -> None:
        on_event(Timed(node=checksum_address(address_of_public_key(public_key)), us=us))

    return tell


def time_others(config: NodeConfig, host: P2PHost, key: SigningKey, on_event: Events) -> None:
    """Have a node be an anchor, where its operator wants that."""
    if config.times_others == "yes":
        serve_times(host, key, lasts_s=NODES_WORD_S, now=clock, tell=_told(on_event))


async def run_anchor(config: AnchorConfig, key: SigningKey, on_event: Events) -> None:
    """Time others until cancelled. Raises ListenError, ConfigurationError for an address that does not work."""
    if not config.announce and any(everywhere in config.listen for everywhere in ("/0.0.0.0/", "/::/")):
        raise ConfigurationError(
            f"listening on {config.listen} does not say where others reach this machine",
            hint="add --announce /ip4/ADDRESS/tcp/PORT",
        )
    raise_file_limit()
    async with (
        open_metrics(config, on_event) as counted,
        TrioRuntime.open() as runtime,
        P2PHost.open(runtime, key.secret, config.listen, announce=config.announce) as host,
    ):
        serve_times(host, key, lasts_s=config.lasts_s, now=clock, tell=_told(counted))
        with shown_here(config.data_dir, "anchor", counted) as shown:
            shown(AnchorReady(anchor=checksum_address(key.address), peer=host.addresses[0]))
            await host.wait_closed()


def own_statements(files: Sequence[Path], public_key: bytes) -> tuple[bytes, ...]:
    """Signed statements about this node. Raises LocalError, and ConfigurationError for one about another."""
    found = []
    for file in files:
        sealed = read_signed(file)
        try:
            said, _ = open_envelope(sealed, Statement)
        except PeerError as error:
            raise ConfigurationError(f"{file} is no signed statement: {error.message}") from None
        if said.subject != public_key:
            hint = "`joule key show` shows the peer id that it must be about"
            raise ConfigurationError(f"{file} is about another node", hint=hint)
        found.append(sealed)
    return tuple(found)


class Timings:
    """What anchors have signed about this node: asked for again when half of its time is over.

    Args:
        anchors: multiaddrs, each ending in the anchor's peer id; one that is this host itself is passed over, so that
            all nodes of a site may have one list.
        changed: called when there is something newer.
    """

    def __init__(
        self, host: P2PHost, anchors: Sequence[str], now: Clock, events: Events, changed: Callable[[], None]
    ) -> None:
        self._host = host
        self._anchors = [each for each in anchors if check_peer_address(each) != host.peer_id]
        self._now = now
        self._events = events
        self._changed = changed
        self._sealed: dict[str, tuple[bytes, Statement]] = {}

    def sealed(self) -> tuple[bytes, ...]:
        """Those that have not expired, in the order of the anchors."""
        held = (self._sealed[each] for each in self._anchors if each in self._sealed)
        return tuple(sealed for sealed, said in held if said.expires_at > self._now())

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for anchor in self._anchors:
                group.create_task(self._follow(anchor), name=f"anchor {anchor}")

    async def _follow(self, anchor: str) -> None:
        while True:
            wait_s = RETRY_S
            try:
                sealed, said = await self._ask(anchor)
            except JoulemeshError as error:
                self._events(PeerUnreached(peer=anchor, reason=error.message))
            else:
                self._sealed[anchor] = sealed, said
                self._changed()
                wait_s = max(LEAST_S, (said.expires_at - self._now()) / 2)
            await asyncio.sleep(wait_s)

    async def _ask(self, anchor: str) -> tuple[bytes, Statement]:
        peer = await self._host.connect(anchor)
        sealed = await self._host.request(peer, TIME_PROTOCOL, b"", max_reply=1024)
        said, signer = open_envelope(sealed, Statement)
        mine = said.subject == self._host.public_key and said.claim == RTT_CLAIM
        if not mine or signer != address_of_public_key(public_key_of(check_peer_address(anchor))):
            raise MalformedError("what it signed is not its word on this node")
        return sealed, said

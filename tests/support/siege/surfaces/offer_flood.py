"""Attacks by what is offered: floods of throwaway keys, impossible figures, somebody else's address or name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable

from node.p2p.host import P2PHost
from protocol.encoding.codec import encode
from protocol.energy.tariff import MAX_PRICE
from protocol.errors import InvalidError, JoulemeshError
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Offer
from protocol.models.activations import ActivationType
from protocol.names import OFFERS_TOPIC
from siege.attack import Ground, Surface, attack
from siege.forged import Victim, forge, real_offers, sealed_by_nobody, sealed_raw, victim
from siege.gossip import say_all, signed, talkers

FLOOD_S = 60.0
"""The whole flood takes so long, where it is of full size."""
FULL = 10_000
TALKERS = 4
IN_A_TURN = 17
"""Said in one RPC: ten times a second, where there are so many as make a full flood."""
SAY_AGAIN_S = 5.0
HEARD = ("published",)


async def _publish(ground: Ground, host: P2PHost, sealed: bytes) -> None:
    try:
        await host.publish(OFFERS_TOPIC, sealed)
        ground.tally["published"] += 1
    except JoulemeshError as error:
        ground.tally[f"unsaid_{error.code}"] += 1


async def _spread(ground: Ground, hosts: list[P2PHost], make: Callable[[int], bytes]) -> None:
    """`ground.count` of them, evenly over the time that a flood takes, and then silence until the end."""
    turns = []
    for first in range(0, ground.count, IN_A_TURN):
        host = hosts[len(turns) % len(hosts)]
        numbers = range(first, min(first + IN_A_TURN, ground.count))
        turns.append((host, [signed(host, OFFERS_TOPIC, number, make(number)) for number in numbers]))
        await asyncio.sleep(0)
    began, pace, said = time.monotonic(), FLOOD_S / FULL, 0
    ground.at_full()
    for host, messages in turns:
        if ground.stop.is_set():
            return
        said += len(messages)
        ground.tally["published"] += len(messages) if await say_all(host, messages) else 0
        await asyncio.sleep(max(0.0, began + said * pace - time.monotonic()))
    ground.tally["flood_s"] = round(time.monotonic() - began)
    await ground.stop.wait()


async def _join(hosts: list[P2PHost]) -> None:
    for host in hosts:
        await host.subscribe(OFFERS_TOPIC, lambda data: data)


def _count_dials(ground: Ground, hurt: Victim) -> None:
    ground.tally["dials"] = len(hurt.dials)
    ground.tally["dials_in_worst_minute"] = hurt.worst_minute


@attack(Surface.OFFERS, short=300, long=FULL, on="honest", fresh=True, at_least_s=60.0, came=HEARD)
async def offers_of_throwaway_keys(ground: Ground) -> None:
    """Cheap, plausible offers of the whole model by throwaway keys; all name one victim's address."""
    async with victim() as hurt, talkers(ground.target, TALKERS) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)

        def make(_number: int) -> bytes:
            key = SigningKey(secrets.token_bytes(32))
            return seal(forge(real, key, **hurt.addresses(key.public_key)), key)

        with contextlib.suppress(asyncio.CancelledError):
            await _spread(ground, hosts, make)
        _count_dials(ground, hurt)


@attack(Surface.OFFERS, short=0, long=FULL, on="node0", at_least_s=60.0, came=HEARD)
async def offers_that_fill_the_books(ground: Ground) -> None:
    """The same at the addresses of a real node and with spans of all sizes: the books of nodes are full of them."""
    async with talkers(ground.target, TALKERS) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)

        def make(number: int) -> bytes:
            start = number % real.blocks
            end = start + 1 + (number // real.blocks) % (real.blocks - start)
            return sealed_by_nobody(real, span=BlockSpan(start=start, end=end))

        await _spread(ground, hosts, make)


@attack(Surface.OFFERS, short=0, long=2_000, on="honest", fresh=True, at_least_s=30.0, came=HEARD)
async def offers_of_keys_that_exist_nowhere(ground: Ground) -> None:
    """Offers at the lowest price there is, whose addresses refuse every connection."""
    async with talkers(ground.target, TALKERS) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)

        def make(_number: int) -> bytes:
            key = SigningKey(secrets.token_bytes(32))
            least = real.rates.replace(opening=0, price_in=0, price_out=1, price_cached=0)
            return seal(forge(real, key, rates=least, **Victim(9).addresses(key.public_key)), key)

        await _spread(ground, hosts, make)


async def _say_all(ground: Ground, hosts: list[P2PHost], offers: list[bytes]) -> None:
    """Say these again and again until the end."""
    await _join(hosts)
    began = False
    while not ground.stop.is_set():
        for sealed in offers:
            await _publish(ground, hosts[0], sealed)
        if not began:
            ground.at_full()
            began = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAY_AGAIN_S):
                await ground.stop.wait()


@attack(Surface.OFFERS, short=1, long=8, on="honest", fresh=True, at_least_s=30.0, came=HEARD)
async def offers_of_endless_models(ground: Ground) -> None:
    """Offers that say of the model that it has 2^32 - 1 blocks."""
    async with talkers(ground.target, 1) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)
        most = 2**32 - 1
        spans = [[0, most], [most - 1, most]]
        sealed = [sealed_raw(real, blocks=most, span=spans[each % 2]) for each in range(ground.count)]
        await _say_all(ground, hosts, sealed)


@attack(Surface.OFFERS, short=1, long=8, on="honest", fresh=True, at_least_s=20.0, came=HEARD)
async def offers_under_the_models_name(ground: Ground) -> None:
    """Offers of other models under the name of the one that is served."""
    async with talkers(ground.target, 1) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)
        sealed = [sealed_by_nobody(real, model=secrets.token_bytes(32)) for _ in range(ground.count)]
        await _say_all(ground, hosts, sealed)


@attack(Surface.OFFERS, short=12, long=60, on="honest", at_least_s=20.0, came=HEARD)
async def offers_with_extreme_figures(ground: Ground) -> None:
    """Prices, times, limits and energies at and beyond the ends of their ranges."""
    async with talkers(ground.target, 1) as hosts:
        (real, _), *_ = await real_offers(hosts[0], ground.target)
        await _say_all(ground, hosts, list(_extremes(ground, real)))


def _extremes(ground: Ground, real: Offer) -> list[bytes]:
    top, u32, u40 = 2**64 - 1, 2**32 - 1, 2**40 - 1
    rates, limits = real.rates, real.limits
    changes: list[Callable[[], dict[str, object]]] = [
        lambda: {"rates": rates.replace(price_out=MAX_PRICE, price_in=MAX_PRICE, opening=MAX_PRICE)},
        lambda: {"rates": rates.replace(price_out=MAX_PRICE + 1)},
        lambda: {"rates": rates.replace(opening=0, price_in=0, price_out=0, price_cached=0)},
        lambda: {"rates": rates.replace(price_out=top)},
        lambda: {"prompt_us": 1, "position_us": 1, "late_us": 1},
        lambda: {"prompt_us": u32, "position_us": u32, "late_us": u32},
        lambda: {"limits": limits.replace(window=u32, chunk=u32, context=top, sessions=u32, credit=u32)},
        lambda: {"limits": limits.replace(window=1, chunk=1, context=0, sessions=0)},
        lambda: {"forecast": (MAX_PRICE,) * 48},
        lambda: {"sequence": top},
        lambda: {"issued_at": u40 - 10, "expires_at": u40},
        lambda: {"activations": tuple(ActivationType)},
        lambda: {"hardware": real.hardware.replace(count=u32, memory_mib=top, name="\u202e" * 20)},
    ]
    if real.energy is not None:
        energy = real.energy
        changes.append(lambda: {"energy": energy.replace(millijoules_in=1, millijoules_out=1)})
        changes.append(
            lambda: {"energy": energy.replace(millijoules_in=top, millijoules_out=top, tariff_micro_per_kwh=top)}
        )
    sealed = []
    for number in range(ground.count):
        try:
            sealed.append(sealed_by_nobody(real, **changes[number % len(changes)]()))
        except InvalidError:  # the codec has no room for it
            ground.tally["unsayable"] += 1
    return sealed


@attack(Surface.OFFERS, short=200, long=5_000, on="node0", at_least_s=20.0, came=HEARD)
async def offers_replayed(ground: Ground) -> None:
    """The nodes' own offers of earlier, said again in the place of the newer ones."""
    async with talkers(ground.target, 1) as hosts:
        old = [sealed for _, sealed in await real_offers(hosts[0], ground.target)]
        await _spread(ground, hosts, lambda number: old[number % len(old)])


@attack(Surface.OFFERS, short=200, long=5_000, on="node0", at_least_s=15.0, came=HEARD)
async def offers_that_are_none(ground: Ground) -> None:
    """Gossip that no offer can be read from: noise, forged seals, another's key."""
    async with talkers(ground.target, 1) as hosts:
        (real, sealed), *_ = await real_offers(hosts[0], ground.target)
        other = SigningKey(secrets.token_bytes(32))
        kinds = [
            lambda: os.urandom(400),
            lambda: seal(real.replace(sequence=secrets.randbits(60)), other),
            lambda: sealed[:-1] + bytes([sealed[-1] ^ 1]),
            lambda: encode(real),
            lambda: bytes(60_000),
        ]
        await _spread(ground, hosts, lambda number: kinds[number % len(kinds)]())

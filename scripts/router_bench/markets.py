"""Offers and ways at random, and what a client asks of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import numpy as np

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Evidence, Hardware, HardwareKind, Offer
from protocol.market.offer import Limits as OfferLimits
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import LatencyClass, Needs, Policy
from protocol.routing.candidates import Candidates
from protocol.routing.cells import Ints
from protocol.routing.columns import Column, Columns
from protocol.routing.judging import Judge
from protocol.routing.lattice import PathLeg
from protocol.routing.ways import Ways
from protocol.routing.wish import Wish, candidates_of

BLOCKS = 80
NOW = 1_800_000_000
MODEL = VENUE = bytes(32)
COUNTRIES = "FR DE IS NO SE FI DK NL BE AT CZ PL IT ES PT IE US CA MX BR AR CL GB CH JP KR TW SG IN AU NZ ZA".split()  # noqa: SIM905
REGIONS = len(COUNTRIES)
DENIED = ("US", "GB", "BR")


def random_offer(draw: random.Random, number: int, sequence: int = 1) -> Offer:
    """A span of 4 to 20 blocks of a model of 80, prices and speeds by block."""
    length = draw.randint(4, 20)
    start = draw.randint(0, BLOCKS - length)
    return Offer(
        public_key=b"\x02" + hashlib.sha256(b"%d" % number).digest(),
        sequence=sequence,
        issued_at=NOW,
        expires_at=NOW + 300,
        venue=VENUE,
        model=MODEL,
        model_name="bench",
        license="",
        span=BlockSpan(start=start, end=start + length),
        blocks=BLOCKS,
        precision="bf16",
        activations=(ActivationType.FP32,),
        hardware=Hardware(device=HardwareKind.CPU, name="", count=1, memory_mib=4096, category=""),
        limits=OfferLimits(
            window=64,
            chunk=512,
            context=draw.choice([512, 4096, 8192, 8192]),
            sessions=draw.choice([0, 4, 8, 8, 8, 8]),
            draft_depth=0,
            credit=0,
        ),
        rates=Rates(
            opening=0,
            price_in=length * draw.randint(1000, 5000),
            price_out=length * draw.randint(4000, 20000),
            price_cached=0,
            price_rejected=0,
            late_discount_ppm=0,
        ),
        forecast=(),
        prompt_us=1000,
        position_us=length * draw.randint(200, 2000),
        late_us=length * 20_000,
        energy=None,
        jurisdiction=draw.choice(COUNTRIES),
        region="",
        addresses=("/ip4/192.0.2.1/tcp/4001",),
        data_addresses=("/ip4/192.0.2.1/tcp/4002/tls",),
        statements=(),
    )


def random_offers(count: int, seed: int) -> list[Offer]:
    """So many, each of another key."""
    draw = random.Random(seed)
    return [random_offer(draw, number) for number in range(count)]


def random_ways(columns: Columns, seed: int) -> Ways:
    """32 regions on a map of 100 ms, and half a millisecond to 8 ms to each machine in them."""
    draw = np.random.default_rng(seed)
    at = draw.uniform(0, 100_000, (REGIONS, 2))
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)).astype(np.int64)
    return Ways(
        access_us=draw.integers(500, 8_000, columns.rows),
        region=columns.at(Column.PLACE) % REGIONS,
        between_us=apart,
    )


POLICY = Policy(
    latency_class=LatencyClass.BATCH,
    max_price_in=None,
    max_price_out=None,
    allow=(),
    deny=DENIED,
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="bf16",
)


class Scene:
    """Some offers in a book's columns, and what a client asks of them."""

    def __init__(self, count: int, seed: int) -> None:
        self.offers = random_offers(count, seed)
        self.columns = Columns(self.offers)
        self.ways = random_ways(self.columns, seed)

    def judge(self, policy: Policy = POLICY) -> Judge:
        """The policy over these columns."""
        return Judge(
            columns=self.columns,
            policy=policy,
            model=MODEL,
            blocks=BLOCKS,
            venue=VENUE,
            now=NOW + 1,
            needs=Needs(positions=1000),
        )

    def candidates(self) -> Candidates:
        """Those that the policy admits."""
        judge = self.judge()
        return candidates_of(judge, self.ways, Wish(latency_weight=0), judge.admitted())[0]

    def everybody(self) -> Candidates:
        """All of them, admitted or not."""
        return candidates_of(self.judge(), self.ways, Wish(latency_weight=0), self.columns.live())[0]


def small(draw: random.Random) -> Candidates:
    """Up to six candidates in up to four regions."""
    region = sorted(draw.randrange(4) for _ in range(draw.randint(1, 6)))
    spans = [sorted(draw.sample(range(6), 2)) for _ in region]

    def some(most: int) -> Ints:
        return np.array([draw.randint(1, most) for _ in region], dtype=np.int64)

    return Candidates(
        provider=np.arange(len(region)),
        start=np.array([start for start, _ in spans]),
        end=np.array([end for _, end in spans]),
        price_in=some(40),
        price_out=some(40),
        position_us=some(5_000),
        prompt_us=some(9),
        access_us=some(3_000),
        region=np.array(region),
        between_us=np.array([[draw.randint(0, 4_000) for _ in range(4)] for _ in range(4)]),
        blocks=5,
    )


def every_path(c: Candidates, at: int = 0, last: int = -1) -> Iterator[tuple[PathLeg, ...]]:
    """All chains of spans over the blocks from `at` on."""
    if at == c.blocks:
        yield ()
        return
    for i in range(len(c.start)):
        if i != last and c.start[i] <= at < c.end[i]:
            for end in range(at + 1, int(c.end[i]) + 1):
                for rest in every_path(c, end, i):
                    yield ((i, at, end), *rest)

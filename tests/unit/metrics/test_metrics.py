"""Figures for Prometheus: what events come to, under bounded labels, for this machine alone."""

from __future__ import annotations

import dataclasses

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.events import (
    Event,
    JobFailed,
    JobServed,
    OfferPublished,
    OrderRefused,
    RequestAnswered,
    RequestRefused,
    Starting,
)
from node.metrics import Metrics, serving_metrics
from protocol.errors import ListenError

pytestmark = pytest.mark.asyncio

ANSWER = RequestAnswered(
    receipt="ab" * 16, key="k", model="m", made="main", outcome="stop", tokens_in=10, tokens_held=4, tokens_out=7,
    seconds=2.0, cost_micro=250_000, first_s=0.15,
)  # fmt: skip
CLIENT, SESSION = b"\x01" * 20, b"\x02" * 32
SERVED = JobServed(
    client=CLIENT, session=SESSION, leg=0, tokens_in=3, tokens_out=5, earned_micro=40, millijoules=1500, seconds=1.0
)


async def read(*events: Event) -> dict[tuple[str, ...], float]:
    """Samples by name and values of labels, as a collector reads them."""
    heard: list[Event] = []
    metrics = Metrics(heard.append)
    metrics.watch("ledger_entries", "Entries.", lambda: 12)
    for each in events:
        metrics(each)
    assert heard == list(events)
    async with serving_metrics(metrics, 0) as url, aiohttp.ClientSession() as http, http.get(url) as response:
        text = await response.text()
    families = text_string_to_metric_families(text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


async def test_events_become_figures() -> None:
    refused = OrderRefused(client=CLIENT, session=SESSION, code="model", reason="another")
    failed = JobFailed(
        client=CLIENT, session=SESSION, leg=0, tokens_in=1, tokens_out=2, paid_micro=3, code="lost-peer", reason="gone"
    )
    offer = OfferPublished(sequence=1, expires_at=2, price_in_micro=500_000, price_out_micro=2_000_000)
    found = await read(
        ANSWER, RequestRefused(request="req", code="c", reason="r", status=429), SERVED, refused, failed, offer
    )
    assert found["joulemesh_gateway_answers_total", "stop"] == 1
    assert found["joulemesh_gateway_tokens_total", "cached"] == 4
    assert found["joulemesh_gateway_cost_dollars_total",] == 0.25
    assert found["joulemesh_gateway_first_token_seconds_bucket", "0.2"] == 1
    assert found["joulemesh_gateway_refusals_total", "429"] == 1
    assert found["joulemesh_node_jobs_total", "served"] == found["joulemesh_node_jobs_total", "failed"] == 1
    assert found["joulemesh_node_tokens_total", "generated"] == 7
    assert found["joulemesh_node_energy_joules_total",] == 1.5
    assert found["joulemesh_node_refusals_total", "model"] == 1
    assert found["joulemesh_node_price_dollars_per_million", "generated"] == 2
    assert found["joulemesh_ledger_entries",] == 12
    assert found["joulemesh_events_total", "request answered", "info"] == 1


async def test_labels_are_bounded() -> None:
    strange = [OrderRefused(client=CLIENT, session=SESSION, code=f"c{at}", reason="") for at in range(5)]
    answers = [dataclasses.replace(ANSWER, outcome=f"o{at}") for at in range(5)]
    found = await read(*strange, *answers)
    assert found["joulemesh_node_refusals_total", "other"] == 5
    assert found["joulemesh_gateway_answers_total", "error"] == 5
    assert not any(CLIENT.hex() in value for name in found for value in name)


async def test_only_this_machine_reads_them() -> None:
    metrics = Metrics(lambda _event: None)
    metrics(Starting(step="x"))
    async with serving_metrics(metrics, 0) as url, aiohttp.ClientSession() as http:
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            async with http.get(url, headers=headers) as response:
                assert response.status == 403
        with pytest.raises(ListenError):
            async with serving_metrics(metrics, int(url.rpartition(":")[2].partition("/")[0])):
                pass
    async with serving_metrics(metrics, None) as nowhere:
        assert not nowhere

"""What a process told, as counters and gauges: events in, figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from node.events import (
    Event,
    Events,
    JobFailed,
    JobServed,
    OfferPublished,
    OrderRefused,
    RequestAnswered,
    RequestRefused,
    VoucherRedeemed,
)
from protocol.refusals import RefusalCode

__all__ = ["Metrics"]

_OUTCOMES = ("stop", "length", "tool_calls", "gone")
"""Of an answer; any other is an error."""
_REASONS = frozenset(each.value for each in RefusalCode)
"""Of a refusal; any other is counted as one."""
_MICRO = 1e-6
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one process. Each is there from its first event on.

    Args:
        events: told of everything, too.
    """

    def __init__(self, events: Events) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._events = events
        self._told = Counter(
            "joulemesh_events", "Events by name and level.", ("event", "level"), registry=self.registry
        )
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._times: dict[str, Histogram] = {}

    def __call__(self, event: Event) -> None:
        self._told.labels(event.name, event.level.word).inc()
        match event:
            case RequestAnswered() | RequestRefused():
                self._of_gateway(event)
            case JobServed() | JobFailed() | OrderRefused() | OfferPublished() | VoucherRedeemed():
                self._of_node(event)
        self._events(event)

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A gauge that is read whenever somebody asks."""
        Gauge(f"joulemesh_{name}", about, registry=self.registry).set_function(read)

    def _of_gateway(self, event: RequestAnswered | RequestRefused) -> None:
        if isinstance(event, RequestRefused):
            self._count("gateway_refusals", "Requests without an answer, by HTTP status.", 1, status=str(event.status))
            return
        outcome = event.outcome if event.outcome in _OUTCOMES else "error"
        self._count("gateway_answers", "Answers that are over, by how they ended.", 1, outcome=outcome)
        for kind, tokens in (
            ("prompt", event.tokens_in),
            ("cached", event.tokens_held),
            ("generated", event.tokens_out),
        ):
            self._count("gateway_tokens", "Tokens of answers; cached ones are prompt tokens, too.", tokens, kind=kind)
        self._count("gateway_cost_dollars", "Paid for answers, fees included.", event.cost_micro * _MICRO)
        self._time("gateway_answer_seconds", "From a request until its last token.", event.seconds)
        if event.first_s is not None:
            self._time("gateway_first_token_seconds", "From a request until its first token.", event.first_s)

    def _of_node(self, event: JobServed | JobFailed | OrderRefused | OfferPublished | VoucherRedeemed) -> None:
        match event:
            case JobServed():
                self._jobs("served", event)
                self._count("node_earned_dollars", "Promised by vouchers for jobs.", event.earned_micro * _MICRO)
                if event.millijoules is not None:
                    joules = event.millijoules / 1000
                    self._count("node_energy_joules", "Spent on jobs that were served.", joules)
            case JobFailed():
                self._jobs("failed", event)
            case OrderRefused():
                code = event.code if event.code in _REASONS else "other"
                self._count("node_refusals", "Orders that were not taken, by reason.", 1, reason=code)
            case OfferPublished():
                about = "Asked per million tokens, by the newest offer."
                self._set("node_price_dollars_per_million", about, event.price_in_micro * _MICRO, kind="prompt")
                self._set("node_price_dollars_per_million", about, event.price_out_micro * _MICRO, kind="generated")
            case VoucherRedeemed():
                self._count("node_redeemed_dollars", "Paid out by the venue.", event.amount_micro * _MICRO)

    def _jobs(self, outcome: str, event: JobServed | JobFailed) -> None:
        self._count("node_jobs", "Jobs that are over, by how they ended.", 1, outcome=outcome)
        self._count("node_tokens", "Tokens of jobs that are over.", event.tokens_in, kind="prompt")
        self._count("node_tokens", "Tokens of jobs that are over.", event.tokens_out, kind="generated")

    def _count(self, name: str, about: str, by: float, **labels: str) -> None:
        if name not in self._counters:
            self._counters[name] = Counter(f"joulemesh_{name}", about, tuple(labels), registry=self.registry)
        _labelled(self._counters[name], labels).inc(by)

    def _set(self, name: str, about: str, value: float, **labels: str) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"joulemesh_{name}", about, tuple(labels), registry=self.registry)
        self._gauges[name].labels(**labels).set(value)

    def _time(self, name: str, about: str, seconds: float) -> None:
        if name not in self._times:
            self._times[name] = Histogram(f"joulemesh_{name}", about, buckets=_SECONDS, registry=self.registry)
        self._times[name].observe(seconds)


def _labelled(counter: Counter, labels: Mapping[str, str]) -> Counter:
    return counter.labels(**labels) if labels else counter

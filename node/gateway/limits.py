"""What a caller asks of a route: by header, in the request, and by its key. The strictest counts.

The operator's settings bound a key's limits, and these bound a request's. Nobody widens what somebody before has set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from node.gateway.reading import Parameters
from node.gateway.refusals import ApiError, invalid
from node.settings.kinds import Choice, Fixed, Kind, Text, Whole
from node.settings.law import Addresses
from node.settings.places import Jurisdictions
from protocol.geography.jurisdictions import expand, is_in
from protocol.market.offer import Evidence
from protocol.policy.policy import LatencyClass

__all__ = ["HEADERS", "Limits", "limits_from_headers", "limits_from_parameters"]

PER_MILLION = Fixed("$ per million tokens", 6, "0", "1000000")
CLASSES = ("batch", "chat", "voice", "metro", "device")
"""The last is never routed: what answers it is the gateway's own machine."""
EVIDENCE = tuple(each.value for each in Evidence)
"""In rising order."""
KINDS: Mapping[str, Kind] = {
    "places": Jurisdictions(),
    "deny": Jurisdictions(),
    "max_price_in": PER_MILLION,
    "max_price_out": PER_MILLION,
    "class": Choice(CLASSES),
    "evidence": Choice(EVIDENCE),
    "precision": Text("a precision's name, such as fp32", pattern="[a-z0-9_-]{1,16}"),
    "edge": Choice(("never", "only")),
    "trusted_ends": Addresses(),
    "end_blocks": Whole("blocks", 1, 255),
}
"""By their names in the field ``joule`` of a request, and with ``x-joule-`` before them in its header."""
HEADERS = {f"x-joule-{name.replace('_', '-')}": name for name in KINDS}
_FIELDS = {"class": "latency_class"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on routes; what is empty or None is not limited."""

    places: tuple[str, ...] = ()
    """Countries, parts of them or blocs where machines may stand."""
    deny: tuple[str, ...] = ()
    """Where they must not."""
    max_price_in: int | None = None
    """Micro-units per million prompt tokens over the whole route."""
    max_price_out: int | None = None
    """Likewise for generated tokens."""
    latency_class: str | None = None
    evidence: str | None = None
    """Least evidence of where a provider stands."""
    precision: str | None = None
    edge: str | None = None
    """``never`` for what the gateway's own machine must not answer, ``only`` for what nobody else may."""
    trusted_ends: tuple[str, ...] = ()
    """Addresses of providers that alone may serve the first and the last blocks."""
    end_blocks: int | None = None
    """How many blocks at each end; None for one."""

    def narrowed(self, by: Limits) -> Limits:
        """Both at once. Raises ApiError for what leaves nothing: the caller may not have it."""
        return Limits(
            places=_places(self.places, by.places),
            deny=tuple(dict.fromkeys((*self.deny, *by.deny))),
            max_price_in=_least(self.max_price_in, by.max_price_in),
            max_price_out=_least(self.max_price_out, by.max_price_out),
            latency_class=_same("class", self.latency_class, by.latency_class),
            evidence=max((each for each in (self.evidence, by.evidence) if each), key=EVIDENCE.index, default=None),
            precision=_same("precision", self.precision, by.precision),
            edge=_same("edge", self.edge, by.edge),
            trusted_ends=_trusted(self.trusted_ends, by.trusted_ends),
            end_blocks=max((each for each in (self.end_blocks, by.end_blocks) if each), default=None),
        )

    def as_policy(self) -> dict[str, object]:
        """Fields of `protocol.policy.policy.Policy` that are not as the client's settings say."""
        fields: dict[str, object | None] = {
            "allow": self.places or None,
            "deny": self.deny or None,
            "max_price_in": self.max_price_in,
            "max_price_out": self.max_price_out,
            "latency_class": None if self.latency_class is None else LatencyClass(self.latency_class),
            "min_evidence": None if self.evidence is None else Evidence(self.evidence),
            "precision": self.precision,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def as_ends(self) -> Any:
        """Who alone may serve the ends of a route, as a request to a client says it."""
        return {"trusted_ends": self.trusted_ends, "end_blocks": self.end_blocks or 1}

    def to_json(self) -> dict[str, str | tuple[str, ...]]:
        """As `limits_from_parameters` reads it."""
        found = {
            name: getattr(self, _FIELDS.get(name, name)) for name in KINDS if getattr(self, _FIELDS.get(name, name))
        }
        return {name: KINDS[name].show(value) if "price" in name else value for name, value in found.items()}


def limits_from_parameters(given: Parameters) -> Limits:
    """The field ``joule`` of a request, or what is kept of a key. Raises ApiError."""
    found = _limits({name: given.take(name) for name in KINDS}, given.name)
    given.require_all_taken()
    return found


def limits_from_headers(headers: Mapping[str, str]) -> Limits:
    """The ``x-joule-`` headers of a request. Raises ApiError, for those that there are not, too."""
    given = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-joule-")}
    for name in given:
        if name not in HEADERS:
            raise invalid(name[:64], f"there is no header {name[:64]!r} here", code="unsupported_parameter")
    return _limits({HEADERS[name]: value for name, value in given.items()}, _header)


def _header(name: str) -> str:
    return f"x-joule-{name.replace('_', '-')}"


def _limits(values: Mapping[str, Any], shown: Callable[[str], str]) -> Limits:
    found = {}
    for name, value in values.items():
        if value is not None:
            raw = str(value) if isinstance(value, float) else value
            try:
                found[_FIELDS.get(name, name)] = KINDS[name].parse(raw)
            except ValueError as error:
                raise invalid(shown(name), f"{shown(name)}: {error}") from None
    return Limits(**found)


def _places(bound: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are asked for, each within what bounds them."""
    if not bound or not asked:
        return bound or asked
    outside = [each for each in asked if not _lies_within(each, bound)]
    if outside:
        raise _too_wide("places", f"{', '.join(outside)}: not within {', '.join(bound)}")
    return asked


def _trusted(bound: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Whom both trust."""
    both = tuple(each for each in asked if not bound or each in bound)
    if asked and not both:
        raise _too_wide("trusted_ends", f"none of {', '.join(asked)} is trusted here with the first and last blocks")
    return both or bound


def _lies_within(code: str, bound: tuple[str, ...]) -> bool:
    return all(any(is_in(place, area) for area in bound) for place in expand((code,)))


def _least(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _same(what: str, bound: str | None, asked: str | None) -> str | None:
    if bound and asked and bound != asked:
        raise _too_wide(what, f"{what} is {bound} here, not {asked}")
    return bound or asked


def _too_wide(what: str, message: str) -> ApiError:
    return ApiError(403, message, kind="invalid_request_error", code="policy_not_allowed", param=f"joule.{what}")

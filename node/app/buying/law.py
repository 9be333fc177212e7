"""What a client's settings say of law: whom it believes, which lists it obeys, and until when all of it must hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from node.app.buying.request import Request
from node.app.network.shunned import address_of
from node.config import ClientConfig
from node.settings.law import Anchors, Corridors, Ground, SignedFiles
from node.signed_files import read_signed
from protocol.errors import ConfigurationError, PeerError
from protocol.identity.ids import Address, ModelManifest, checksum_address, parse_address
from protocol.market.offer import Evidence, Offer
from protocol.policy.denials import OpenDenials, open_denials
from protocol.policy.ends import TrustedEnds, opened
from protocol.policy.law import Law
from protocol.policy.policy import LatencyClass, Policy
from protocol.policy.trust import Trust
from protocol.routing.choice import covers_some_model

__all__ = ["covers_trusted", "ends_of", "law_of", "policy_of"]

PLANNING_S = 60
"""A session may be opened so long after its route was looked for: what law holds until then has to hold longer."""


def law_of(config: ClientConfig, now: int) -> Law:
    """What the settings stand for, for jobs that are begun now (Unix seconds).

    Lists that are not yet in force when such a job is over are left out.

    Raises ConfigurationError: a list cannot be read, is somebody else's, or has expired.
    """
    until = now + config.session_s + PLANNING_S
    lists = [_list(*SignedFiles.parts(each)) for each in config.deny_lists]
    for each in lists:
        if each.denials.expires_at < until:
            raise ConfigurationError(
                f"the list {each.denials.name!r} of {checksum_address(each.issuer)} has expired, or will before a job "
                "could end",
                code="list-not-in-force",
                hint="get a newer one from its issuer, or leave it out of deny_lists",
            )
    return Law(
        trust=_trust(config),
        lists=tuple(each for each in lists if each.denials.effective_from <= until),
        until=until,
    )


def _trust(config: ClientConfig) -> Trust | None:
    if not (config.anchors or config.attestors or config.stands_at):
        return None
    return Trust(
        anchors=tuple(Anchors.anchor(each) for each in config.anchors),
        lying=config.lying_anchors,
        attestors=tuple(parse_address(each) for each in config.attestors),
        stands=None if config.stands_at is None else Ground.point(config.stands_at),
    )


def _list(issuer: Address, file: Path) -> OpenDenials:
    sealed = read_signed(file)
    try:
        found = open_denials(sealed)
    except PeerError as error:
        raise ConfigurationError(f"{file} is no signed list of denials: {error.message}") from None
    if found.issuer != issuer:
        raise ConfigurationError(
            f"{file} is signed by {checksum_address(found.issuer)}, not by {checksum_address(issuer)}",
            code="list-not-in-force",
        )
    return found


def ends_of(config: ClientConfig, nodes: Iterable[bytes], request: Request | None = None) -> TrustedEnds | None:
    """Who of some providers, by public key, may serve the first and the last blocks; None where anybody may.

    Whom settings and request both name may, where both name somebody, and as many blocks as either says.
    """
    asked = () if request is None else request.trusted_ends
    named = [{parse_address(each) for each in those} for those in (config.trusted_ends, asked) if those]
    if not named:
        return None
    trusted = set.intersection(*named)
    depth = max(config.end_blocks, 1 if request is None else request.end_blocks)
    return TrustedEnds(frozenset(node for node in nodes if address_of(node) in trusted), depth)


def covers_trusted(
    config: ClientConfig, offers: Sequence[Offer], manifest: ModelManifest, request: Request | None = None
) -> bool:
    """Whether offers leave no block of a model out, the ends of it served by those alone who may serve them."""
    of_model = [each for each in offers if each.model == manifest.root]
    ends = ends_of(config, {each.public_key for each in of_model}, request)
    cut = [offer.replace(span=span) for offer, span in opened(ends, of_model, manifest.blocks)]
    return covers_some_model(cut)


def policy_of(config: ClientConfig, manifest: ModelManifest, law: Law) -> Policy:
    """What the settings ask of every provider of a model. Raises ConfigurationError for what is no policy."""
    if config.corridors and config.origin is None:
        raise ConfigurationError("corridors, and no place that data come from", hint="add --origin CODE")
    return Policy(
        latency_class=LatencyClass(config.latency_class),
        max_price_in=config.max_price_in_micro,
        max_price_out=config.max_price_out_micro,
        allow=config.allow,
        deny=config.deny,
        min_evidence=Evidence(config.min_evidence),
        min_stake=config.min_stake_micro,
        precision=manifest.precision if config.precision is None else config.precision,
        origin=config.origin or "",
        purpose=config.purpose,
        corridors=tuple(Corridors.corridor(each) for each in config.corridors),
        trust=law.trust_hash,
        lists=tuple(each.hash for each in law.lists),
        deny_hardware=config.deny_hardware,
        max_retention_s=config.max_retention_s,
        no_training=config.training == "forbidden",
        max_carbon_g_per_kwh=config.max_carbon_g_per_kwh,
        licenses=config.licenses,
    )

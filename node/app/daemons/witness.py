"""The witness process: it cosigns other operators' logs over HTTP."""

from __future__ import annotations

import asyncio

from node.app.process.clock import clock
from node.app.process.measured import open_metrics
from node.app.process.services import shown_here
from node.config import WitnessConfig
from node.events import Events, WitnessReady
from node.file_limit import raise_file_limit
from node.ledger import WitnessSettings, second_key, witness_key
from node.ledger import run_witness as serve_witness
from node.settings.witnesses import key_and_url
from protocol.log.note import VerifierKey

__all__ = ["keys_of", "run_witness", "settings_of"]


def settings_of(config: WitnessConfig) -> WitnessSettings:
    """What the settings say of a witness."""
    return WitnessSettings(
        folder=config.data_dir / "witness",
        name=config.name,
        logs=tuple(key_and_url(each, VerifierKey.parse) for each in config.logs),
        host=config.host,
        port=config.port,
        validate=config.validate == "yes",
        pull_s=config.pull_s,
    )


async def run_witness(config: WitnessConfig, on_event: Events) -> None:
    """Run a witness until cancelled.

    Raises:
        ConfigurationError, KeystoreError, ListenError: the settings, the key or an address make no sense.
        LocalError: another process is this witness, or what it has cosigned cannot be read.
    """
    raise_file_limit()
    settings = settings_of(config)
    with shown_here(config.data_dir, "witness", on_event) as shown:
        async with open_metrics(config, shown) as counted:
            await _serve(settings, counted)


async def _serve(settings: WitnessSettings, on_event: Events) -> None:
    async with serve_witness(settings, clock, events=on_event) as witness:
        logs = tuple(key.name for key, _ in settings.logs)
        on_event(WitnessReady(url=witness.url, verifier_key=witness.verifier_key, logs=logs))
        await asyncio.Event().wait()


def keys_of(config: WitnessConfig, *, second: bool) -> tuple[str, str | None]:
    """What a witness's cosignatures are checked with: its key, made where there is none yet, and its second one, made
    where that is asked for; None where it has none. Raises LocalError.
    """
    settings = settings_of(config)
    key = witness_key(settings.folder, settings.name)
    other = second_key(settings.folder, key.verifier.name, make=second)
    return str(key.verifier), None if other is None else str(other.verifier)

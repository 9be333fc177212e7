"""`joule doctor`: what is installed, from where, and what is missing; and how the nodes do that run here."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import click

from node.app.diagnosis.finding import Finding
from node.cli.terminal.boundary import EXTRAS, FAILED, install_hint
from node.cli.terminal.options import PASSPHRASE_VARIABLE, configured, examples, json_option, keystore
from node.cli.terminal.output import print_json, print_table
from node.cli.terminal.running import run_job
from node.config import ClientConfig, LedgerConfig, NodeConfig, WitnessConfig
from node.settings import declared
from protocol.errors import KeystoreError, LocalError

OWN_PACKAGES = ("node", "protocol", "simulator")
"""Top-level names that other distributions use too: whichever comes first on the path wins."""
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Where its driver is loaded."""


@click.command(epilog=examples("joule doctor", "joule doctor --wait 10 --json"))
@configured(ClientConfig, only=("ledger", "peers", "data_dir", "log_level"))
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen for the offers of nodes that run here.",
)
@json_option
def doctor(config: ClientConfig, wait_s: float, as_json: bool) -> int:
    """Look at this installation, and at the nodes that run here: what is wrong, why no work came today, and what to do.

    Of the installation: versions, where packages come from, missing extras, permissions, ports. Of each node that runs
    with this data directory: clock, ports, whether others see its offer, key, ledger, meter and feeds, its price
    against the book, and the orders of today with the reasons for which they were not taken. The exit status is 1 where
    something will not work.
    """
    folder = config.data_dir
    findings = [*_versions(), *_origins(), *_extras(), _device(), *_data_dir(folder), *_variables()]
    nodes, status = run_job(_nodes(config, wait_s))
    findings += nodes or _ports()
    if as_json:
        print_json(findings)
    else:
        print_table(("", "what", "found", "what to do"), [[x.level, x.what, x.detail, x.fix] for x in findings])
    return status or (FAILED if any(each.level == "fail" for each in findings) else 0)


async def _nodes(config: ClientConfig, wait_s: float) -> list[Finding]:
    """What is to be said of the nodes that run here."""
    from node.app.diagnosis.diagnosis import diagnosed
    from node.app.diagnosis.symptoms import running_nodes, symptoms_of

    found: list[Finding] = []
    for node in running_nodes(config.data_dir):
        try:
            found += diagnosed(await symptoms_of(config, node, wait_s))
        except LocalError as error:
            found.append(Finding("fail", "activity", error.message, error.hint))
    return found


def _device() -> Finding:
    """Which device would run a node's blocks: a GPU in the machine is not used."""
    from node.engine.device import compute_device

    return Finding("ok", "computes on", f"{compute_device()}; a GPU is not used yet")


def _versions() -> list[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        own = Finding("ok", "joulemesh", version("joulemesh"))
    except PackageNotFoundError:
        own = Finding("fail", "joulemesh", "not installed: pip install -e .")
    return [Finding("ok", "python", f"{python} ({sys.executable})"), own]


def _origins() -> list[Finding]:
    owners, findings = packages_distributions(), []
    home = Path(__file__).resolve().parents[3]
    for name in OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        others = sorted(set(owners.get(name, [])) - {"joulemesh"})
        if origin is None or origin.parents[1] != home:
            findings.append(Finding("fail", name, f"comes from {origin}, not from {home}"))
        elif others:
            findings.append(
                Finding("fail", name, f"{', '.join(others)} installs it too: pip uninstall {' '.join(others)}")
            )
        else:
            findings.append(Finding("ok", name, str(origin.parent)))
    return findings


def _extras() -> list[Finding]:
    findings = []
    for package, extra in sorted(EXTRAS.items(), key=lambda item: (item[1], item[0])):
        if importlib.util.find_spec(package) is None:
            findings.append(Finding("note", package, f"not installed; {install_hint(extra)}"))
        else:
            findings.append(Finding("ok", package, _version_of(package)))
    return findings


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed"


def _data_dir(folder: Path) -> list[Finding]:
    if not folder.exists():
        return [Finding("ok", "data directory", f"{folder} (made when it is first needed)")]
    writable = os.access(folder, os.W_OK | os.X_OK)
    findings = [
        Finding("ok" if writable else "fail", "data directory", f"{folder}{'' if writable else ' is not writable'}")
    ]
    keys = keystore(folder)
    if keys.folder.exists():
        mode = stat.S_IMODE(keys.folder.stat().st_mode)
        private = not mode & 0o077
        detail = f"{keys.folder} has mode {mode:o}" + ("" if private else f": chmod 700 {keys.folder}")
        findings.append(Finding("ok" if private else "fail", "keystore", detail))
        try:
            findings.append(Finding("ok", "keys", ", ".join(each.name for each in keys.list()) or "none"))
        except KeystoreError as error:
            findings.append(Finding("fail", "keys", f"{error.message} {error.hint}".strip()))
    return findings


def _variables() -> list[Finding]:
    known = {each.variable for cls in (NodeConfig, LedgerConfig, ClientConfig, WitnessConfig) for each in declared(cls)}
    strange = sorted(
        name for name in os.environ if name.startswith("JOULE_") and name not in {*known, PASSPHRASE_VARIABLE}
    )
    return [Finding("note", name, "set, but no setting has this name") for name in strange]


def _ports() -> list[Finding]:
    port = LedgerConfig().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return [Finding("note", f"port {port}", f"{error.strerror}: a ledger may be running; else choose --port")]
    return [Finding("ok", f"port {port}", "free for a ledger")]

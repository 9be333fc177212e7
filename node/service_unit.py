"""systemd units for services that are left running: started at boot, and again when they fail."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["SERVICES", "SYSTEM_STATE", "service_unit"]

SERVICES = {
    "node": ("a provider of Joulemesh", ("node", "run")),
    "ledger": ("a ledger of Joulemesh", ("ledger", "run")),
    "gateway": ("a gateway of Joulemesh", ("gateway", "run")),
    "witness": ("a witness of Joulemesh", ("witness", "run")),
    "anchor": ("an anchor of Joulemesh", ("anchor", "run")),
}
"""By name what each is, and the command that runs it."""
SYSTEM_STATE = Path("/var/lib/joule")
"""Where a service of the system keeps keys and state."""
_STOP_S = 60
"""For a service to end its jobs and redeem what they earned, before it is killed."""

# Of the kernel's doors those stay open that a service needs: sockets, and the counters of devices. Code that is made
# while it runs (torch) rules out MemoryDenyWriteExecute.
_SYSTEM = """\
DynamicUser=yes
StateDirectory=joule
StateDirectoryMode=0700
Environment=JOULE_HOME=%S/joule
{credential}CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
"""

_UNIT = """\
[Unit]
Description={name}: {what}
Documentation=man:systemd.service(5)
After=network-online.target time-sync.target
Wants=network-online.target

[Service]
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
TimeoutStopSec={stop_s}
LimitNOFILE=65536
UMask=0077
{confined}
[Install]
WantedBy={target}
"""


def service_unit(service: str, *, joule: Path, config: Path, passphrase: Path | None, home: Path, system: bool) -> str:
    """The text of a unit.

    Args:
        service: of `SERVICES`.
        joule: the command, as an absolute path.
        config: its settings file, as an absolute path.
        passphrase: the file that opens its key; None for a service without a key.
        home: its data directory; a service of the system has `SYSTEM_STATE`.
        system: whether the system runs it, confined, under a user of its own; else the user who asks does.
    """
    what, command = SERVICES[service]
    words = [str(joule), *command, "--config", str(config)]
    line = " ".join(map(_quoted, words))
    credential = ""
    if passphrase is not None:
        opened_by = "${CREDENTIALS_DIRECTORY}/passphrase" if system else _quoted(str(passphrase))
        line += f" --passphrase-file {opened_by}"
        credential = f"LoadCredential=passphrase:{passphrase}\n"
    confined = _SYSTEM.format(credential=credential) if system else f"Environment={_quoted(f'JOULE_HOME={home}')}\n"
    target = "multi-user.target" if system else "default.target"
    return _UNIT.format(
        name=f"joule-{service}", what=what, command=line, stop_s=_STOP_S, confined=confined, target=target
    )


def _quoted(word: str) -> str:
    """As systemd reads it: in quotes where there are blanks, its own signs doubled."""
    return shlex.quote(word.replace("%", "%%").replace("$", "$$"))

"""The network: libp2p for discovery, gossip and requests, direct TLS for the data of running jobs.

- `runtime.TrioRuntime`: the thread that libp2p runs in, one for each process.
- `host.P2PHost`: an identity with its connections, requests and topics.
- `gossip.Announcer`: says a value again until it expires.
- `door.Door`, `succession.Succession`: who may connect, and what becomes of an old connection when a peer comes anew.
- `direct.DataPlane`: mutually authenticated links for activations.

Only this package knows of libp2p and trio.
"""

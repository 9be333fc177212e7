"""The network: libp2p for discovery, gossip and requests, direct TLS for the data of running jobs.

- `runtime.TrioRuntime`: the thread that libp2p runs in, one for each process.
- `host.P2PHost`: an identity with its connections, requests and topics.
- `gossip.Announcer`: says a value again until it expires.
- `door.Door`, `places.Places`, `usage.Usage`: who may connect, who leaves for others, and what each peer is of use for;
  `succession.Succession`: what becomes of an old connection when a peer comes anew.
- `guests`, `reading`, `muxer`: what strangers may hold of a host; `unasked`: what libp2p would do of its own accord.
- `direct.DataPlane`: mutually authenticated links for activations. A caller waits in `lobby`, `turns` compute its
  handshake, and its `link` has one of the `link_places`; `budget` is memory to receive into, `tls` what they run on.

Only this package knows of libp2p and trio.
"""

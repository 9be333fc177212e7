"""The rules of Joulemesh, pure: values in, values or a typed error out.

No sockets, disk, clock, randomness, logging, async or torch here; `node` and `simulator` bring those. Reading order:
ids, units, errors, codec, signing, eip712, messages, frames, tariff, offer, policy, routing, job, metering, session,
merkle, note, checkpoint, tiles, fingerprint, receipt.
"""

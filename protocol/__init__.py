"""The rules of Joulemesh, pure: values in, values or a typed error out.

No sockets, disk, clock, randomness, logging, async or torch here; `node` and `simulator` bring those. Reading order:
ids, units, errors, codec, signing, eip712 (bytes); rates, terms, messages, metering (what is agreed and owed); power,
offer, policy, standing, routing, agreement, order (how it comes about); frames, patience, claim, tab, receipt, draws,
fingerprint, audit (how it is served, paid and judged); operations, settlement, merkle, checkpoint, evidence,
accusing (the ledger); bundle (what is left).
"""

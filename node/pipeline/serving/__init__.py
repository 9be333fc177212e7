"""A provider's side of jobs. Reading order: leg, compute, outbox, neighbours, redeem, admission, incoming, provider."""

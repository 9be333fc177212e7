"""A process on the network: its host, books and roads, what is remembered of peers, models that are looked for."""

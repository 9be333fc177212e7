"""A client's side of jobs. Reading order: job, orders, leg_links, silence, conversation, deeds, client, reclaim."""

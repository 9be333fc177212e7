"""A client's side of jobs. Reading order: job, orders, conversation, deeds, client, reclaim."""

"""A client's side of jobs. Reading order: job, orders, conversation, client, reclaim."""

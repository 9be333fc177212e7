"""A client's side of jobs. Reading order: job, conversation, client, reclaim."""

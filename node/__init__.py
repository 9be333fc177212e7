"""Everything with I/O: the daemon, the client, the command line."""

"""Attacks on a running network, as a hostile outsider would make them: real processes, real sockets, bounded in count.

``scripts/siege.py`` runs them at full size beside honest jobs and holds what it measures against targets;
``tests/hostile`` runs the same attacks small. Reading order: `attack` (what one is), `attacker` (the process that makes
it), `watched` and `honest` (what is looked at meanwhile), `field` (all of it together), `row` (what is measured, and
the targets), `surfaces` (the attacks), `trial` and `trials` (what is tried once).
"""

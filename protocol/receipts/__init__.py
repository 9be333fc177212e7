"""What is kept of a job, and what it proves afterwards: bundles, audits, contradictions."""

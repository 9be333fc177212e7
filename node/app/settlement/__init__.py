"""Where jobs are paid: the venue that a setting names, what is witnessed of it, vouchers and what they come to."""

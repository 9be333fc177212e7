"""A client: from a question to a plan, a job, an answer and a receipt, and what is checked afterwards."""

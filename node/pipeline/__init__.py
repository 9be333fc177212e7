"""Jobs: how a node serves its leg of one, and how a client runs and pays one.

Reading order: vouchers, leg, compute, outbox, neighbours, redeem, admission, provider; tab, conversation, client.
"""

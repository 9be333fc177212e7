"""Settlement on an EVM chain: the contract as it was built, and the venue that it is for nodes and clients.

Reading order: address, contract, rpc, reader, kept, sessions, viewing, gas, sending, token, evm; deployment puts a
contract on a chain, confirming asks one for what a receipt shows.
"""

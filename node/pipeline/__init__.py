"""Jobs: how a node serves its leg of one (`serving`), and how a client runs and pays one (`buying`).

The two rooms share `vouchers`, the store of what was promised. What is owed, claimed and proven is decided in
`protocol` (`tab`, `claim`, `receipt`).
"""

"""Where the node's capacity is: in jobs, idle, unattributed, down. Pure.

What jobs were told to hold and use is taken from their meters and records, so that with
what is told here each window adds up: nothing that the node has vanishes from the books.
Accounts are told two whole minutes late, because a start or an end is not always known at
once; what is learnt later still is corrected by an amount that is added (see `amount`).
"""

from agent.accounts.amount import Account, Amount, Interval
from agent.accounts.node import LAG_MS, HostReadings, NodeAccounts

__all__ = ["LAG_MS", "Account", "Amount", "HostReadings", "Interval", "NodeAccounts"]

"""The use cases that every dialect calls: what is billed, and at which prices.

No HTTP here, and no SQL text: a use case asks the store, decides by `aggregator.rating`,
and gives frozen values whose money is ready to be printed.
"""

"""The Ledger API: what was charged, line by line, as an account statement."""

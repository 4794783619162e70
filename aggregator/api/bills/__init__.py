"""The Bill API, the primary dialect."""

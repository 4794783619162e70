"""The installation's own certificate authority: its files, what it signs, whom it denies."""

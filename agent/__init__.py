"""The daemon on every node: finds jobs, samples them, keeps and sends usage records."""

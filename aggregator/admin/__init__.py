"""The `nodemeter` command: an HTTP client for administrators."""

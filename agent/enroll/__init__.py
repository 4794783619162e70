"""How this node gets its certificate and keeps it: the command, and what the daemon starts.

Nothing in here is loaded into the daemon's own process, which stays small: it starts
`agent.enroll.renew` and `agent.enroll.diagnose` as programs.
"""

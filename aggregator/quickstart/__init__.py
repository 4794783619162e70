"""`make run`: the whole product on one machine, in the foreground."""

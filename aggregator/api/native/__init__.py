"""Our own endpoints below /api/admin/v1: what an administrator needs beyond the dialects."""

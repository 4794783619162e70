"""PostgreSQL with TimescaleDB: pool, migrations, named queries, the embedded server."""

"""The gRPC side: validates batches and commits them exactly once."""

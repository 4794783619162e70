"""The HTTP dialects: each parses, calls a use case and renders; none computes money."""

"""The service: takes the agents' streams, stores, rates and serves the billing APIs."""

"""The Hourly API: what an hour cost, by team, project, resource type and resource."""

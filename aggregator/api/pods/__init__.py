"""The Pods API: what pods, endpoints and storage were charged, by buckets of time."""

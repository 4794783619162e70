"""The settings of each provider and sampler, one file each; `agent.settings` puts them together."""

"""The Cost API: what projects, namespaces and clusters used, as Alauda's costs show it."""

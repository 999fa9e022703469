"""When the provider may be called: what all replicas have learned of its limits."""

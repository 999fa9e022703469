"""Planted faults: do the tests notice when the service is wrong? `make mutants`; faults.toml has them."""

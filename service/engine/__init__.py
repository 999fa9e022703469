"""A turn's life, and the only place with chat rules. engine.py puts the parts together."""

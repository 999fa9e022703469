"""Redis itself: connections, scripts, notifications. The only importers of redis."""

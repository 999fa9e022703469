"""One module per group of addresses. What all routes share is one folder up."""

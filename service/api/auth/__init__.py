"""Who is calling: API keys, JWTs, tickets, client addresses."""

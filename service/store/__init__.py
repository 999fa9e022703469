"""What is kept in Redis. Rules of chats are the engine's; only connection/ speaks to Redis."""

"""Small additions to asyncio. They know nothing of this service."""

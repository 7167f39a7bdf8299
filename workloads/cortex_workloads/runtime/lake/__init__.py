"""The Lake (PostgreSQL with pgvector): its connections, its schema and the revisions that live in it."""

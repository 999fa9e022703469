"""The processes around the application: Gunicorn's master, its workers, their HTTP server. No route here."""

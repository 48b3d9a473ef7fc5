"""Celery's tasks: they unpack a message, call the engine and return a summary; any of them may run twice."""

"""Celery's tasks: they unpack a message, call the engine and return a summary; whatever they do may happen twice."""

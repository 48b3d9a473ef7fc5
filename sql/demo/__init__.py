"""The demo's statements, a file for each dialect."""

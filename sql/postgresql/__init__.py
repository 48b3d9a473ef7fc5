"""PostgreSQL's statements, a file for each noun, and the macros that they share."""

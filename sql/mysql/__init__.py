"""The statements of MySQL and MariaDB, a file for each noun, and the macros that they share."""

"""Functions that call a service of AWS, made on Aurora alone: a file for each dialect."""

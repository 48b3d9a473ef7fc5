"""The documents checked against the code: what they name exists, and what exists is named."""

"""What several test modules share: predictions to apply, models that record and block, deadlines to poll by."""

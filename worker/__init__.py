"""The engine of rowscore: claims un-scored rows, scores them in batches, writes the predictions back."""

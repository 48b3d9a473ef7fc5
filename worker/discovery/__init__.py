"""What `rowscore init` makes of a database: `facts` reads it, `choices` decides, `draft` writes the file's text."""

"""What `rowscore init` makes of a database: `facts` reads, `choices` decides, `draft` writes the file."""

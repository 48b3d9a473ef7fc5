"""The parts of `rowscore demo`: servers, table, model, endpoint, traffic; production uses none of them."""

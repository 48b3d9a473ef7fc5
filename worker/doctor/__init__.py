"""What `rowscore doctor` looks at: each module checks one kind of thing, `examination` says in what order.

A check yields findings and changes nothing. Where it finds something wrong it says how to mend it, as SQL or
as a command that can be copied.
"""

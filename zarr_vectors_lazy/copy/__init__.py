"""A store, a level or a selection becomes another store: unchanged, in other chunks, or in other cells."""

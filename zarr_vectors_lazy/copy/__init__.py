"""A store, a level or a selection becomes another store: as it is, in other chunks, in other cells."""

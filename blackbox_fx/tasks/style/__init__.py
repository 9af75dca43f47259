"""Style transfer: a network sets real effects so that one recording sounds like another."""

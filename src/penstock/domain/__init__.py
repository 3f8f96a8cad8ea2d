"""The nouns of the field: plain values that every other layer speaks of. Standard library only."""

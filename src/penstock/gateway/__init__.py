"""The hot path: from a call that has been read to an answer that has been delivered."""

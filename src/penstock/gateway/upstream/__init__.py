"""The engine's side of a call: connections, single tries, the loop of tries, and the answer's way to the client."""

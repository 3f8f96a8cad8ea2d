"""Model servers' side of a call: attempts, retries, connections, and relays of responses to the client."""

"""Days of a fleet in virtual time: the same calls under several policies of routing, and how long people waited."""

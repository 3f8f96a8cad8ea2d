"""The fleet's snapshot and the live state that outlasts it: load, residency, throughput, the swap queue."""

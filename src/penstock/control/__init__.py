"""Background work beside the calls: it publishes its results to the gateway as immutable snapshots."""

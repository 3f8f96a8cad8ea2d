"""The decision which deployments may answer a call, in which order, and why. Pure: nothing here waits or writes."""

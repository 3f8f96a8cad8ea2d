"""Go's standard library, as far as a client of a Go server sees it."""

"""The slow world: looks at model servers, and pushes what it sees down as snapshots."""

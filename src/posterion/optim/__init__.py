"""The loop: runs an algorithm in compiled chunks, watches it, stops it. Knows nothing of targets, families or data."""

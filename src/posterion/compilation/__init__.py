"""What is done to a function before XLA sees it: axis order, precision, and the cache of compiled programs."""

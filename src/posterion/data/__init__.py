"""Sources of rows and the batches they give."""

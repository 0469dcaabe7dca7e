"""From a table to a model and back: files, the meaning of columns, preparation, and a folder that keeps it all."""

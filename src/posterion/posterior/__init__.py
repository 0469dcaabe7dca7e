"""What a user holds after a fit: the posterior, its draws as ArviZ data, its record, its file."""

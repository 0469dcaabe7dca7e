"""What is optimised: the evidence lower bound, its scaling to all rows, and estimators of its gradient."""

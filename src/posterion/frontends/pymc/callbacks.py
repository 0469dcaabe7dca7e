"""Operations without a JAX version, called on the host."""

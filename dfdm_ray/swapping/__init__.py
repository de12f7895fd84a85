"""Making DFDM-shaped data: faces of identities, training a generator on a pair, converting scenes."""

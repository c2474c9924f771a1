"""Says who the caller is, and gives out managed-identity tokens."""

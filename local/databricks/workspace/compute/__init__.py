"""Keeps books about clusters; nothing is started, as runs have processes of their own."""

"""Runs the whole loop on the local cloud and checks each step against what is really there."""

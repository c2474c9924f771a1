"""Starts the local cloud's services in order, keeps them alive and leaves no process behind."""

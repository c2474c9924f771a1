"""Executes the app's functions in a process of its own, through azure-functions-runtime."""

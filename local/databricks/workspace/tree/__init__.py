"""Keeps the workspace's tree of directories, notebooks and files."""

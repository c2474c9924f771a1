"""Runs a Functions app on this machine as Azure does: its triggers here, its code in Microsoft's own worker library.

`python -m local.functions_host --app-dir DIR --port P --settings FILE` starts it;
`docs/emulators/functions.md` lists every difference from the real host.
"""

"""The running system: starting and stopping its processes, and telling how it is doing."""

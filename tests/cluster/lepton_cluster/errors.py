"""The one exception that the tool shows as a plain message."""


class ClusterError(Exception):
    """Something that the person at the keyboard can read and act on; anything else is a bug."""

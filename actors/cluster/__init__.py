"""The cluster itself: how it is joined, where actors are placed, what each node must have, what devices it has and how fast they are.

In: the configuration. Out: resource options for Ray, problems of nodes in words, measured rates.
"""

__all__ = ["connection", "machines", "placement", "preflight", "probe"]

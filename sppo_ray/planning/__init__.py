"""What a run needs and takes, before the bill: memory per device, fit, time, cost.

In: the configuration and a kind of GPU. Out: a `Budget`, with the settings that would help where it does not fit.
"""

__all__ = ["budget", "devices", "memory", "rates", "splits", "text", "work"]

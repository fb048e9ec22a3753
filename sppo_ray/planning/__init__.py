"""Plan a run before paying for it: memory per device, fit, time and cost.

In: the configuration and a type of GPU. Out: a `Budget`; where it does not fit, the settings that would help.
"""

__all__ = ["budget", "devices", "memory", "rates", "splits", "text", "work"]

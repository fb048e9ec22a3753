"""Plan a run before paying for it: memory per device, fit, time and cost.

In: the configuration and a type of GPU. Out: every way to run it, best first; where none fits, the nearest that does.
"""

__all__ = ["budget", "devices", "fitting", "memory", "placing", "rates", "splits", "text", "work"]

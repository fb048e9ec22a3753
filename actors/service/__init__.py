"""What people reach of a run on a cluster: the gateway, metrics for Prometheus and Grafana, sampling outside a run.

In: requests. Out: answers of the run's own engines.
"""

__all__ = ["answering", "gateway", "metrics"]

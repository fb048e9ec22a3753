"""SPPO (arXiv 2405.00675): everything that is true without a cluster. Never imports Ray."""

__version__ = "0.1.0"

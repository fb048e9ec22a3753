"""Long-lived engine actors and the pools that keep them alive, scale them and route work to them.

In: blocks of prompts or candidates. Out: blocks in the ledger; lost members are replaced and their work done elsewhere.
"""

from actors.engines import generator, ranker
from actors.engines.member import PoolState
from actors.engines.pool import Pool
from actors.engines.pools import most_resources, start_generators, start_pools, start_rankers

__all__ = [
    "Pool",
    "PoolState",
    "generator",
    "most_resources",
    "ranker",
    "start_generators",
    "start_pools",
    "start_rankers",
]

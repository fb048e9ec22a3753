"""The loop of a run: the coordinator, the scoring of prompts, the trainer, the evaluation after each iteration.

In: pools, a ledger with the prompts. Out: published snapshots and reports. Nothing is imported here: `trainer` loads
torch, which the other actors do without.
"""

__all__ = ["board", "coordinator", "evaluation", "pairs", "scoring", "trainer"]

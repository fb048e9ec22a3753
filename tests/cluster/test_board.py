"""What the run's status counts."""

import asyncio

from actors.run.board import Board


def test_each_epoch_trains_every_pair():
    board = Board()
    asyncio.run(board.begin(1, prompts=40, reference="iter-0", epochs=3))
    stages = asyncio.run(board.status()).stages
    assert {name: stage.total for name, stage in stages.items()} == {"generate": 40, "judge": 40, "train": 120}

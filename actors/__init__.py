"""What lives on a Ray cluster: pools of engine actors, the pipeline, the trainer, the coordinator."""

import gc

# While libraries are imported, Python would walk all their objects eight times in search of garbage: a quarter of the time
# that a process takes to start. Now it takes a hundred times as many new objects for that; young garbage goes as before.
gc.set_threshold(*gc.get_threshold()[:2], 1000)

"""What a run would need and take, before anything is started: memory, time, bytes, cost. No GPU, no network, no torch."""

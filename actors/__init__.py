"""What lives on a Ray cluster: pools of engine actors, the pipeline, the trainer, the coordinator."""

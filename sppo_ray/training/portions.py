"""How much of something large the trainer works on at once, by device.

Planning counts with the same numbers, so torch is not loaded here.
"""


def logit_slice(on_gpu: bool) -> int:
    """Logits that the loss computes at once, by slices of the vocabulary.

    128 MiB of float32 on a GPU. A CPU keeps 4 MiB in its cache: the loss took half the time that it took with slices of 128 MiB,
    most of which went into fetching new memory from the kernel.
    """
    return 1 << 25 if on_gpu else 1 << 20


def sub_group(on_gpu: bool) -> int:
    """Parameters of a worker that DeepSpeed updates at once: it adds whole tensors until there are so many.

    The update's temporaries are as large as eight bytes of each. On GPUs that is little beside the rest, and one update is faster
    (DeepSpeed's default); on CPUs it was the peak of a small model's training, and costs nothing.
    """
    return 1_000_000_000 if on_gpu else 30_000_000


def reduce_bucket(trained: int) -> int:
    """Gradients that DeepSpeed reduces at once, for which it allocates memory: its default, or all that there are.

    An adapter's are some ten million, so on a GPU most of a GiB stays free.
    """
    return min(500_000_000, trained)

"""Processes that read images: one for each core of a training process.

At most 16; each reads two batches ahead (PyTorch's `prefetch_factor`). The
machine's processes share its cores. `--cfg-options
train_dataloader.num_workers=N` sets another number.
"""
os = __import__('os')  # import makes it a lazy config for mmengine 0.10.7

cores = len(os.sched_getaffinity(0))
processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # of this machine
num_workers = min(max(cores // processes, 1), 16)

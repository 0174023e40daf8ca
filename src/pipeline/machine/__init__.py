"""The machine under a job: its processes, GPUs and memory."""

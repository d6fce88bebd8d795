"""The parts of lem's PyTorch worker (lem_worker_pytorch.py beside this folder)."""

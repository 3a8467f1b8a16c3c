"""Supervised fine-tuning with DeepSpeed under Ray Train: examples in, a safetensors model folder out."""

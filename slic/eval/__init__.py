"""Retrieval and classification by a run's embeddings, and finetuning."""

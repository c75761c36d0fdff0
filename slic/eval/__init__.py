"""Evaluation of a run: retrieval, linear classification, finetuning."""

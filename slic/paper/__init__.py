"""The tables of the paper, trained again beside the published figures."""

"""`slic report`: what a run has learnt, gathered for one HTML page."""

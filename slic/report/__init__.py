"""`slic report`: collect what a run has learnt for one HTML page."""

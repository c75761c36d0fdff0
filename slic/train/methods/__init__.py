"""The methods that pretrain an encoder, each readable from top to bottom in its own file."""

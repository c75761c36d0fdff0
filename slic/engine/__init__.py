"""How anything is trained: the loop and its services, which know no method by name."""

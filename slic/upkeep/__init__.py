"""Looking after stores and runs: verify and repair, export, plan, doctor."""

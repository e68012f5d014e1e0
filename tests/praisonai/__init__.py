"""Coming from PraisonAI: the drop-in for its session store, and the import of its files."""

"""Which labels may teach. One file a filter; each decision is kept with its reason."""

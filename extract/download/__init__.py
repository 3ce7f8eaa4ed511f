"""Gets corpora behind open links: transfers, checks, unpacks, places. Says what to do by hand for the others."""

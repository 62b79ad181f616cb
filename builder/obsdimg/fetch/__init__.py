"""Downloads into the cache: the install ISO and packages, verified."""

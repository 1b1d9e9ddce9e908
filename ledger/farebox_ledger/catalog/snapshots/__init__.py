"""Price files of others as farebox ships them; written by `catalog.make_snapshots`, read by `catalog.shipped`."""

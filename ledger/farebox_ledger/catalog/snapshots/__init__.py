"""Price files as their makers published them; read by `catalog.shipped`."""

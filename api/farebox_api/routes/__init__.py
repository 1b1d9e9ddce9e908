"""The addresses: each module holds the routes of one subject and lists them in `ROUTES`."""

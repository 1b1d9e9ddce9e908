"""The shapes of answers and bodies. Money is a decimal string, times are RFC 3339, members are snake_case."""

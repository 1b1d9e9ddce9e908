"""Serves: the API, its pages and the jobs behind them. Importing it imports nothing heavy."""

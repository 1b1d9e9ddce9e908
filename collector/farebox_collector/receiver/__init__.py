"""Speaks OTLP over gRPC and HTTP: key → size → decompress → parse → spool → answer. Knows nothing of money."""

"""JSON-RPC methods, a module each namespace; :mod:`table` says how a method is declared."""

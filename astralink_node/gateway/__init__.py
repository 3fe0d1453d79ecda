"""The gateway process: JSON-RPC over HTTP and WebSocket, stateless apart from caches keyed by the head."""

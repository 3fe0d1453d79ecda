"""The typed query layer: everything that an interface may ask of the chain, the mempool and the node.

JSON-RPC asks through it, and so will REST, GraphQL and gRPC; no method reaches round it (ADR 18).
"""

"""Safe wrappers around the cryptographic libraries, checked against published vectors."""

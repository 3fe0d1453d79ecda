"""The root of the errors that AstraLink raises on purpose.

Every package defines its own typed errors below :class:`AstraLinkError`; each carries facts (what was
expected, what was found) rather than only prose. Anything else that escapes is a bug.
"""


class AstraLinkError(Exception):
    """An expected failure with a message that an operator can act on."""


class UserError(AstraLinkError):
    """Something that the operator gave is wrong: the CLI prints the message alone and exits with `exit_code`."""

    exit_code = 2

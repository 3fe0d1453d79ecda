"""The root of the errors that AstraLink raises on purpose.

Every package defines its own typed errors below :class:`AstraLinkError`; each carries facts (what was
expected, what was found) rather than only prose. Anything else that escapes is a bug.
"""

from typing import Final

EXIT_USER: Final = 2
"""Exit code: the operator can put right what was given."""
EXIT_STORAGE: Final = 74
"""Exit code: the disk, or what is on it, failed (EX_IOERR)."""


class AstraLinkError(Exception):
    """An expected failure with a message that an operator can act on."""


class UserError(AstraLinkError):
    """Something that the operator gave is wrong: the CLI prints the message alone and exits with `exit_code`."""

    exit_code = EXIT_USER

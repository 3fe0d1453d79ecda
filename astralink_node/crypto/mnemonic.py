"""BIP-39 phrases: the developers' accounts of a devnet, and a validator's keys written down on paper.

eth-account has the word lists and BIP-32; it takes most of a second to import, so it is loaded on first use.
"""

from astralink_node.errors import UserError


class InvalidMnemonic(UserError):
    """Not a BIP-39 phrase: wrong words, wrong count or wrong checksum. Never repeats the words."""


def generate_mnemonic() -> str:
    """24 English words: 256 bits from the operating system."""
    from eth_account.hdaccount.mnemonic import Mnemonic
    from eth_account.types import Language

    return Mnemonic(Language.ENGLISH).generate(24)


def seed_of(mnemonic: str, passphrase: str = "") -> bytes:
    """The 64-byte BIP-39 seed; raises `InvalidMnemonic`."""
    from eth_account.hdaccount import seed_from_mnemonic
    from eth_utils.exceptions import ValidationError

    try:
        return seed_from_mnemonic(" ".join(mnemonic.split()), passphrase)
    except ValidationError:
        # The library's message repeats the words.
        raise InvalidMnemonic("mnemonic: expected 12 to 24 BIP-39 words with a valid checksum") from None


def account_private_keys(mnemonic: str, count: int) -> tuple[bytes, ...]:
    """Private keys of the first `count` accounts that wallets show for the phrase: m/44'/60'/0'/0/i."""
    from eth_account.hdaccount import key_from_seed

    seed = seed_of(mnemonic)
    return tuple(bytes(key_from_seed(seed, f"m/44'/60'/0'/0/{index}")) for index in range(count))

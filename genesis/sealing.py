"""A genesis file whose `alloc` holds the staking contracts as the rest of it makes them: making one, and the check.

Both run the contract in the EVM. Whatever becomes a chain's database passes the check.
"""

from dataclasses import fields, replace

from genesis.fields import GenesisError
from genesis.rendering import render_genesis
from genesis.schema import GenesisAccount, GenesisFile, parse_unsealed_genesis
from genesis.staking_state import InitialisationFailed, staking_alloc


def parse_genesis(data: bytes) -> GenesisFile:
    """The genesis that the bytes of a file describe; raises GenesisError for the first mistake found."""
    genesis = parse_unsealed_genesis(data)
    _check_staking_accounts(genesis)
    return genesis


def sealed(genesis: GenesisFile) -> str:
    """The file with the staking contracts in `alloc` as everything else in it makes them; without staking, as it is.

    The result is parsed once before it is returned: a GenesisError names what does not fit.
    """
    text = render_genesis(replace(genesis, alloc={**genesis.alloc, **staking_alloc(genesis)}))
    parse_genesis(text.encode())
    return text


def _check_staking_accounts(genesis: GenesisFile) -> None:
    try:
        made = staking_alloc(genesis)
    except InitialisationFailed as error:
        raise GenesisError("astralink.staking", "values that the staking contract takes", str(error)) from error
    for address, expected in made.items():
        found = genesis.alloc.get(address)
        if found == expected:
            continue
        differing = "nothing"
        if found is not None:
            names = (field.name for field in fields(GenesisAccount))
            differing = "another " + ", ".join(n for n in names if getattr(found, n) != getattr(expected, n))
        raise GenesisError(
            f"alloc.{address.hex()}",
            "the staking contract as the rest of this file makes it (`genesis seal` puts it there)",
            differing,
        )

"""Which precompile answers at which address, and how py-evm calls it.

A precompile is a `Precompile`: pure functions and a height from which it is active. Ethereum's are listed here;
the chain's own (`NATIVE`) are passed to `precompiles_for` beside them, with their activation heights, and must not
take an address that Ethereum uses. Only this module knows py-evm.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from eth.abc import ComputationAPI
from eth.exceptions import VMError

from astralink_node.evm.precompiles import blake2f, bls12_381, bn254, kzg, ml_dsa, modexp, p256, standard
from astralink_node.evm.precompiles.call_data import PrecompileFailure
from astralink_node.types import Address, Height

_GENESIS = Height(0)

PrecompileCall = Callable[[ComputationAPI], ComputationAPI]
"""py-evm's form: charges, computes, sets `output`; raises a VMError to burn the call's gas."""


@dataclass(frozen=True, slots=True)
class Precompile:
    """`gas` and `run` may raise `PrecompileFailure` and nothing else; `run` only ever sees input that was paid for."""

    address: Address
    name: str
    gas: Callable[[bytes], int]
    run: Callable[[bytes], bytes]
    active_from: Height = _GENESIS


def _ethereum(number: int, name: str, gas: Callable[[bytes], int], run: Callable[[bytes], bytes]) -> Precompile:
    return Precompile(Address(number.to_bytes(20, "big")), name, gas, run)


PRAGUE: tuple[Precompile, ...] = (
    _ethereum(0x01, "ECRECOVER", standard.ecrecover_gas, standard.ecrecover),
    _ethereum(0x02, "SHA256", standard.sha256_gas, standard.sha256),
    _ethereum(0x03, "RIPEMD160", standard.ripemd160_gas, standard.ripemd160),
    _ethereum(0x04, "IDENTITY", standard.identity_gas, standard.identity),
    _ethereum(0x05, "MODEXP", modexp.prague_gas, modexp.modexp),
    _ethereum(0x06, "ECADD", bn254.ecadd_gas, bn254.ecadd),
    _ethereum(0x07, "ECMUL", bn254.ecmul_gas, bn254.ecmul),
    _ethereum(0x08, "ECPAIRING", bn254.ecpairing_gas, bn254.ecpairing),
    _ethereum(0x09, "BLAKE2F", blake2f.blake2f_gas, blake2f.blake2f),
    _ethereum(0x0A, "POINT_EVALUATION", kzg.point_evaluation_gas, kzg.point_evaluation),
    _ethereum(0x0B, "BLS12_G1ADD", bls12_381.g1_add_gas, bls12_381.g1_add),
    _ethereum(0x0C, "BLS12_G1MSM", bls12_381.g1_msm_gas, bls12_381.g1_msm),
    _ethereum(0x0D, "BLS12_G2ADD", bls12_381.g2_add_gas, bls12_381.g2_add),
    _ethereum(0x0E, "BLS12_G2MSM", bls12_381.g2_msm_gas, bls12_381.g2_msm),
    _ethereum(0x0F, "BLS12_PAIRING_CHECK", bls12_381.pairing_gas, bls12_381.pairing),
    _ethereum(0x10, "BLS12_MAP_FP_TO_G1", bls12_381.map_fp_to_g1_gas, bls12_381.map_fp_to_g1),
    _ethereum(0x11, "BLS12_MAP_FP2_TO_G2", bls12_381.map_fp2_to_g2_gas, bls12_381.map_fp2_to_g2),
)

OSAKA: tuple[Precompile, ...] = (
    *(entry for entry in PRAGUE if entry.name != "MODEXP"),
    _ethereum(0x05, "MODEXP", modexp.osaka_gas, modexp.modexp),
    _ethereum(0x100, "P256VERIFY", p256.p256verify_gas, p256.p256verify),
)

NATIVE: tuple[Precompile, ...] = (
    Precompile(ml_dsa.ML_DSA_ADDRESS, "ML_DSA_65", ml_dsa.ml_dsa_gas, ml_dsa.ml_dsa_verify),
)
"""An AstraLink chain's own, active from genesis; a plain Ethereum chain has none."""


def active_precompiles(
    osaka: bool, *, native: Iterable[Precompile] = (), height: Height = _GENESIS
) -> tuple[Precompile, ...]:
    """Ethereum's of the fork, and of `native` those that are active at `height`."""
    return (*(OSAKA if osaka else PRAGUE), *(own for own in native if own.active_from <= height))


def precompiles_for(
    osaka: bool, *, native: Iterable[Precompile] = (), height: Height = _GENESIS
) -> Mapping[Address, PrecompileCall]:
    """The calls by address, for a py-evm computation class."""
    calls: dict[Address, PrecompileCall] = {}
    for entry in active_precompiles(osaka, native=native, height=height):
        if entry.address in calls:
            raise ValueError(f"{entry.name}: address 0x{entry.address.hex()} is taken")
        calls[entry.address] = _py_evm_call(entry)
    return calls


def _py_evm_call(entry: Precompile) -> PrecompileCall:
    def call(computation: ComputationAPI) -> ComputationAPI:
        data = computation.msg.data_as_bytes
        try:
            computation.consume_gas(entry.gas(data), reason=entry.name)
            computation.output = entry.run(data)
        except PrecompileFailure as error:
            # No cause: its traceback would keep this call and its computation alive.
            raise VMError(str(error)) from None
        return computation

    return call

"""The validator's keys, its signing history and its signer."""

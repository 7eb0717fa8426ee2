"""The ledger: clients write unique values while the broker is killed at random moments, and every promise is audited.

`python3 -m ledger --help` from `tests`, or `cargo xtask compat --only ledger-ottla`. The books are kept by the
clients alone: what they tried, what was acknowledged, what they saw. The auditors are pure functions over the books,
and `test_auditors.py` plants each anomaly once.
"""

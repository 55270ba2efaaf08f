"""The hospital's decisions: membership, policy, approvals; and the ledger of messages sent."""

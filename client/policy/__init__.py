"""What the hospital decided: membership, policy, approvals, and the ledger of what left."""

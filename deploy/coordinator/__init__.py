"""The coordinating centre's machine: certificates, SuperLink, gate, roster of sites."""

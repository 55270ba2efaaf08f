"""The machine of the coordinating centre: certificates, SuperLink, gate, list of sites."""
